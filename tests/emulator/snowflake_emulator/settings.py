"""What a test may turn, by the command line's --setup or by the control endpoint."""

import dataclasses
import time


@dataclasses.dataclass
class Settings:
    account: str = "TESTORG-TESTACCOUNT"
    clock_skew: float = 0.0               # seconds the emulator's clock is ahead
    clock_tolerance: float = 60.0         # of iat and exp in key-pair tokens
    token_life: float = 600.0             # of scoped tokens
    hostname_answer: str = "text"         # text | json
    token_answer: str = "text"            # text | json
    ingest_host: str = ""                 # default: the host that was asked
    commit_lag: float = 0.0               # seconds from accepted to committed
    resend: str = "stale"                 # stale | idempotent: a request whose answer was lost
    superseded_code: str = "STALE_CONTINUATION_TOKEN_SEQUENCER"
    altered_table: str = "ignore"         # ignore | reopen: an append after ALTER TABLE, before the channel is reopened
    requests_per_second: int = 10         # of one channel
    largest_body: int = 4_000_000
    channels_per_status: int = 100
    partition_rows: int = 1000            # of a SQL API answer
    synchronous_seconds: float = 45.0     # how long a SQL API call blocks before it answers 202
    multi_joined_updates: bool = False    # whether UPDATE ... FROM may match a row more than once
    discard_rows: bool = False            # rows are checked, not kept
    quoted_identifiers_ignore_case: bool = False  # what SHOW PARAMETERS says; names are kept as written all the same

    def now(self):
        return time.time() + self.clock_skew

    def now_ms(self):
        return int(self.now() * 1000)

    def update(self, values):
        known = {field.name: field.type for field in dataclasses.fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"no such setting: {name}; known: {', '.join(sorted(known))}")
            wanted = type(getattr(self, name))
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if type(value) is not wanted:
                raise ValueError(f"{name} is a {wanted.__name__}")
            setattr(self, name, value)

    def to_json(self):
        return dataclasses.asdict(self)
