"""Who may ask: users with two key slots, their RS256 key-pair tokens, and the scoped tokens of the streaming endpoints."""

import base64
import hashlib
import hmac
import json
import re
import secrets
import uuid

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .errors import HttpError

KEYPAIR = "KEYPAIR_JWT"
OAUTH = "OAUTH"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LONGEST_LIFE = 3600


def b64url(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_b64url(text):
    if re.search(r"[^A-Za-z0-9_-]", text):
        raise ValueError("not base64url without padding")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def load_public_key(body):
    """The key of ALTER USER ... SET RSA_PUBLIC_KEY: base64 of DER, without delimiters."""
    key = serialization.load_der_public_key(base64.b64decode("".join(body.split()), validate=True))
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
        raise ValueError("not an RSA key of at least 2048 bits")
    return key


def fingerprint(body):
    der = base64.b64decode("".join(body.split()))
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def jwt_refused(why):
    return HttpError(401, "390144", f"JWT token is invalid. [{uuid.uuid4()}] ({why})")


class Auth:
    def __init__(self, store, settings):
        self.store = store
        self.settings = settings
        if "token_secret" not in store.kinds["setting"]:
            store.put("setting", "token_secret", secrets.token_hex(32))
        self.secret = bytes.fromhex(store.kinds["setting"]["token_secret"])
        self.revoked_before = 0.0

    # Key-pair tokens

    def verify_key_pair(self, token):
        """The user's name and the role that the token asks for; HttpError(401) for anything that is not in order."""
        parts = token.split(".")
        if len(parts) != 3:
            raise jwt_refused("not three parts")
        try:
            header, claims = (json.loads(from_b64url(part)) for part in parts[:2])
            signature = from_b64url(parts[2])
        except ValueError:
            raise jwt_refused("not base64url of JSON") from None
        if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "RS256":
            raise jwt_refused("alg is not RS256")
        name, key = self.owner_of(claims)
        try:
            key.verify(signature, ".".join(parts[:2]).encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise jwt_refused("signature") from None
        self.check_times(claims)
        scope = claims.get("scp", "")
        return name, scope.removeprefix("session:role:") if scope.startswith("session:role:") else None

    def owner_of(self, claims):
        issuer, subject = claims.get("iss"), claims.get("sub")
        if not isinstance(issuer, str) or not isinstance(subject, str):
            raise jwt_refused("iss or sub is missing")
        account, _, name = subject.partition(".")
        if account != self.settings.account.upper():
            raise jwt_refused("account")
        user = self.store.users.get(name)
        if user is None or user.get("disabled"):
            raise jwt_refused("user")
        for slot in ("rsa_public_key", "rsa_public_key_2"):
            if user.get(slot) and issuer == f"{subject}.{fingerprint(user[slot])}":
                return name, load_public_key(user[slot])
        raise jwt_refused("no key of the user has the fingerprint in iss")

    def check_times(self, claims):
        times = {}
        for claim in ("iat", "exp"):
            value = claims.get(claim)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise jwt_refused(f"{claim} is missing")
            times[claim] = value / 1000 if value > 1e11 else value
        now = self.settings.now()
        if times["iat"] > now + self.settings.clock_tolerance:
            raise jwt_refused("issued in the future")
        if now >= min(times["exp"], times["iat"] + LONGEST_LIFE) + self.settings.clock_tolerance:
            raise jwt_refused("expired")
        if times["exp"] <= times["iat"]:
            raise jwt_refused("exp is not after iat")

    # Scoped tokens

    def issue(self, user, role, scope):
        now = self.settings.now()
        claims = {"iss": "emulator", "sub": user, "role": role, "scope": scope, "iat": int(now),
                  "issued": now, "exp": int(now + self.settings.token_life), "jti": uuid.uuid4().hex}
        head = b64url(json.dumps({"typ": "JWT", "alg": "HS256"}).encode()) + "." + b64url(json.dumps(claims).encode())
        return head + "." + b64url(hmac.digest(self.secret, head.encode(), "sha256"))

    def verify_scoped(self, token, scope):
        head, _, signature = token.rpartition(".")
        try:
            good = hmac.compare_digest(from_b64url(signature), hmac.digest(self.secret, head.encode(), "sha256"))
            claims = json.loads(from_b64url(head.split(".")[1])) if good else None
        except (ValueError, IndexError):
            claims = None
        if claims is None:
            raise HttpError(401, "390303", "Invalid OAuth access token.")
        if self.settings.now() >= claims["exp"] or claims["issued"] < self.revoked_before:
            raise HttpError(401, "390318", "OAuth access token expired.")
        if claims["scope"] != scope:
            raise HttpError(401, "390303", "OAuth access token is not for this host.")
        return claims["sub"], claims["role"]

    def revoke_all(self):
        self.revoked_before = self.settings.now()

    # Requests

    def bearer(self, request):
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            raise HttpError(401, "390101", "Authorization header is missing or is not a bearer token.")
        declared = request.headers.get("x-snowflake-authorization-token-type")
        if declared not in (None, KEYPAIR, OAUTH):
            raise HttpError(401, "390104", f"Unknown authorization token type {declared}.")
        return token, declared

    def key_pair_user(self, request):
        token, declared = self.bearer(request)
        if declared == OAUTH:
            raise HttpError(401, "390303", "Invalid OAuth access token.")
        return self.verify_key_pair(token)

    def scoped_user(self, request):
        token, declared = self.bearer(request)
        if declared == KEYPAIR:
            raise HttpError(401, "390144", "A scoped token is needed here, not a key-pair token.")
        return self.verify_scoped(token, request.host_name)

    def role_for(self, name, wanted):
        """The role that a session runs in."""
        user = self.store.users[name]
        role = wanted or user.get("default_role") or "PUBLIC"
        if role not in user.get("roles", []) or role not in self.store.roles:
            raise HttpError(401, "390189", f"Role '{role}' specified in the connect string does not exist or not "
                            "authorized. Contact your local system administrator, or attempt to login with another role.")
        return role


def check_public_key(body):
    """None, or why this is no public key."""
    try:
        load_public_key(body)
    except (ValueError, UnsupportedAlgorithm):
        return "New public key rejected by current policy. Reason: 'Invalid public key'"
    return None
