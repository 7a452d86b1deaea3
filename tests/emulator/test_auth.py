"""Keys, tokens and privileges."""

import time
import unittest

from cryptography.hazmat.primitives.asymmetric import rsa
from harness import EmulatorTest, make_jwt, public_body

from snowflake_emulator.auth import fingerprint

OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Tokens(EmulatorTest):
    def hostname(self, token, kind="KEYPAIR_JWT"):
        headers = {"Authorization": f"Bearer {token}"}
        if kind:
            headers["X-Snowflake-Authorization-Token-Type"] = kind
        return self.client.call("GET", "/v2/streaming/hostname", None, headers)

    def test_host_name_is_bare_text(self):
        answer = self.hostname(make_jwt())
        self.assertEqual((200, b"127.0.0.1"), (answer.status, answer.body))
        self.client.control("settings", {"hostname_answer": "json", "ingest_host": "ingest.local"})
        self.assertEqual({"hostname": "ingest.local"}, self.hostname(make_jwt(), None).json)

    def test_times_in_seconds_or_milliseconds(self):
        now = time.time()
        for iat, exp, status in ((now, now + 3540, 200), (now * 1000, (now + 3540) * 1000, 200), (now - 10, now + 59, 200),
                                 (now - 3700, now + 3600, 401), (now - 300, now - 200, 401), (now + 300, now + 900, 401),
                                 (now, now - 1, 401)):
            answer = self.hostname(make_jwt(iat=int(iat), exp=int(exp)))
            self.assertEqual(status, answer.status, answer.body)

    def test_tokens_that_are_not_in_order(self):
        good = make_jwt()
        head, claims, signature = good.split(".")
        subject = "TESTORG-TESTACCOUNT.ETL_USER"
        for token in (make_jwt(OTHER), make_jwt(user="NOBODY"), make_jwt(account="OTHER"), make_jwt(iss="x"), make_jwt(exp=None),
                      f"{head}.{claims}.{signature[:-4]}AAAA", f"{head}.{claims}", "x", good + "=",
                      make_jwt(header={"typ": "JWT", "alg": "none"}), make_jwt(sub=subject.lower()),
                      make_jwt(OTHER, iss=f"{subject}.{fingerprint(public_body())}")):
            self.assert_refused(self.hostname(token), 401, "390144")
        self.assert_refused(self.hostname(good, "OAUTH"), 401)
        self.assert_refused(self.hostname(good, "SAML"), 401)

    def test_clock_skew(self):
        self.client.control("settings", {"clock_skew": -300.0})
        self.assert_refused(self.hostname(make_jwt()), 401, "390144")

    def test_both_key_slots(self):
        self.client.sql(f"ALTER USER ETL_USER SET RSA_PUBLIC_KEY_2 = '{public_body(OTHER)}'")
        described = {row[0]: row[1] for row in self.client.sql("DESC USER ETL_USER")}
        self.assertEqual(fingerprint(public_body()), described["RSA_PUBLIC_KEY_FP"])
        self.assertEqual(fingerprint(public_body(OTHER)), described["RSA_PUBLIC_KEY_2_FP"])
        self.assertEqual(200, self.hostname(make_jwt(OTHER)).status)
        self.client.sql("ALTER USER ETL_USER UNSET RSA_PUBLIC_KEY_2")
        self.assert_refused(self.hostname(make_jwt(OTHER)), 401, "390144")
        self.assertEqual("null", {row[0]: row[1] for row in self.client.sql("DESC USER ETL_USER")}["RSA_PUBLIC_KEY_2_FP"])
        self.assert_refused(self.client.submit("ALTER USER ETL_USER SET RSA_PUBLIC_KEY_2 = 'TUlJ'"), 422, "394300")

    def test_scoped_tokens(self):
        self.assertEqual(3, len(self.client.get_token().body.decode().split(".")))
        self.assert_refused(self.client.get_token(scope="other.host"), 400, "invalid_scope")
        self.assert_refused(self.client.get_token(grant_type="password"), 400, "unsupported_grant_type")
        self.assert_refused(self.client.get_token(scope="127.0.0.1 session:role:NOBODY"), 401, "390189")
        self.assertEqual(200, self.client.get_token(scope="127.0.0.1 session:role:ETL_ROLE").status)
        self.client.control("settings", {"token_answer": "json"})
        self.assertIn("token", self.client.get_token().json)

    def test_scoped_tokens_expire_and_key_pair_tokens_do_not_replace_them(self):
        table = self.make_table("ID INT")
        self.client.control("settings", {"token_life": 30.0})
        self.assertEqual(200, self.client.open(table).status)
        self.client.control("settings", {"clock_skew": 31.0})
        self.assert_refused(self.client.open(table), 401, "390318")
        self.client.control("settings", {"token_life": 600.0, "clock_skew": 0.0})
        self.client.token = None
        self.assertEqual(200, self.client.open(table).status)
        self.client.control("tokens", {})
        self.assert_refused(self.client.open(table), 401, "390318")
        self.client.token = make_jwt()
        self.assert_refused(self.client.open(table), 401)
        answer = self.client.call("PUT", self.client.pipe_path(table) + "/channels/c", "{}", self.client.key_pair_headers())
        self.assert_refused(answer, 401, "390144")


class Privileges(EmulatorTest):
    def setUp(self):
        super().setUp()
        self.client.control("sql", {"statement": "CREATE SCHEMA IF NOT EXISTS DB.P; CREATE TABLE IF NOT EXISTS DB.P.T (A INT)"})

    def deny(self, privilege, kind, path, denied=True):
        self.client.control("deny", {"role": "ETL_ROLE", "privilege": privilege, "kind": kind, "path": path, "denied": denied})

    def test_a_right_taken_from_an_open_role(self):
        for privilege, kind, path, statement, code in (
                ("SELECT", "TABLE", ["DB", "P", "T"], "SELECT * FROM DB.P.T", "003001"),
                ("INSERT", "TABLE", ["DB", "P", "T"], "INSERT INTO DB.P.T VALUES (1)", "003001"),
                ("CREATE TABLE", "SCHEMA", ["DB", "P"], "CREATE TABLE DB.P.U (A INT)", "003001"),
                ("CREATE TASK", "SCHEMA", ["DB", "P"], "CREATE TASK DB.P.K AS SELECT 1", "003001"),
                ("USAGE", "SCHEMA", ["DB", "P"], "SELECT * FROM DB.P.T", "002003"),
                ("USAGE", "DATABASE", "DB", "SELECT * FROM DB.P.T", "002003"),
                ("USAGE", "DATABASE", "DB", "SHOW SCHEMAS IN DATABASE DB", "002043"),
                ("USAGE", "WAREHOUSE", "ETL_WH", "SELECT * FROM DB.P.T", "000606")):
            with self.subTest(privilege=privilege, kind=kind):
                self.deny(privilege, kind, path)
                self.assert_refused(self.client.submit(statement), 422, code)
                self.deny(privilege, kind, path, False)
        self.deny("INSERT", "TABLE", ["DB", "P", "T"])
        path = "/v2/streaming/databases/DB/schemas/P/pipes/T-STREAMING/channels/c"
        self.assert_refused(self.client.call("PUT", path, "{}", self.client.scoped_headers()), 404)
        self.deny("INSERT", "TABLE", ["DB", "P", "T"], False)

    def test_least_privilege_by_grants(self):
        self.client.control("setup", {"roles": {"SMALL": {"open": False}},
                                      "users": {"ETL_USER": {"roles": ["ETL_ROLE", "SMALL"]}}})

        def attempt(statement):
            return self.client.submit(statement, role="SMALL", database="DB", schema="P").status

        def admin(statement):
            self.client.control("sql", {"statement": statement})

        self.assertEqual(422, attempt("CREATE TABLE DB.P.MINE (A INT)"))
        admin("GRANT USAGE ON DATABASE DB TO ROLE SMALL; GRANT USAGE, CREATE TABLE ON SCHEMA DB.P TO ROLE SMALL")
        self.assertEqual(200, attempt("CREATE TABLE DB.P.MINE (A INT)"))
        self.assertEqual(422, attempt("CREATE SCHEMA IF NOT EXISTS DB.P"), "asks for the right all the same")
        self.assertEqual(200, attempt("CREATE TABLE IF NOT EXISTS DB.P.MINE (A INT)"))
        admin("REVOKE CREATE TABLE ON SCHEMA DB.P FROM ROLE SMALL")
        self.assertEqual(422, attempt("CREATE TABLE IF NOT EXISTS DB.P.MINE (A INT)"), "asks for the right all the same")
        admin("GRANT CREATE TABLE ON SCHEMA DB.P TO ROLE SMALL")
        self.assertEqual([[None]], self.client.sql("SELECT CURRENT_WAREHOUSE()", role="SMALL"))
        self.assertEqual(422, attempt("INSERT INTO MINE VALUES (1)"))
        admin("GRANT USAGE ON WAREHOUSE ETL_WH TO ROLE SMALL")
        self.assertEqual(200, attempt("INSERT INTO MINE VALUES (1)"))
        self.assertEqual(422, attempt("SELECT * FROM T"))
        admin("GRANT SELECT ON ALL TABLES IN SCHEMA DB.P TO ROLE SMALL; GRANT SELECT ON FUTURE TABLES IN SCHEMA DB.P TO ROLE SMALL; "
              "CREATE TABLE DB.P.LATER (A INT)")
        self.assertEqual([200, 200, 422], [attempt("SELECT * FROM T"), attempt("SELECT * FROM LATER"), attempt("DELETE FROM T")])
        admin("REVOKE SELECT ON TABLE DB.P.T FROM ROLE SMALL; REVOKE SELECT ON FUTURE TABLES IN SCHEMA DB.P FROM ROLE SMALL")
        self.assertEqual(422, attempt("SELECT * FROM LATER"))
        self.assertEqual(422, attempt("ALTER TABLE T ADD COLUMN B INT"))
        admin("GRANT OWNERSHIP ON TABLE DB.P.T TO ROLE SMALL COPY CURRENT GRANTS")
        self.assertEqual(200, attempt("ALTER TABLE T ADD COLUMN B INT"))
        self.assertEqual(422, attempt("ALTER USER ETL_USER UNSET RSA_PUBLIC_KEY_2"))
        self.assertEqual(422, attempt("GRANT USAGE ON DATABASE DB TO ROLE SMALL"))


if __name__ == "__main__":
    unittest.main()
