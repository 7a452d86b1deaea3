#include "app/error_pages.h"

#include <string>

namespace etl {
namespace {

constexpr ErrorPage kPages[] = {
    // Configuration.
    {"ETL-C001", "the configuration is not plain YAML",
     "The file could not be parsed, or uses something a configuration never needs: anchors, "
     "aliases, tags, merge keys, several\n"
     "documents, more than 32 levels, more than 1 MiB, bytes that are not UTF-8. Nothing was "
     "touched. Correct the place shown."},
    {"ETL-C002", "the configuration file cannot be read",
     "Name the file with --config or the variable ETL_STREAM_CONFIG; `etl-stream init` writes a "
     "first one."},
    {"ETL-C010", "a key is given twice",
     "YAML readers differ in which one they keep, so neither is taken. Remove one of them."},
    {"ETL-C011", "unknown field",
     "The key does not exist at this place. The message names the nearest one and everything that "
     "is allowed there."},
    {"ETL-C012", "a value has the wrong form",
     "Durations are written 250ms, 5s, 1m; sizes 64KiB, 16MiB; true and false without quotes; "
     "lists in [ ]."},
    {"ETL-C013", "a value is not allowed here",
     "It is outside its range, not one of the choices, or does not fit another key. The message "
     "says which."},
    {"ETL-C014", "a required key is missing", "Add the key that the message names."},
    {"ETL-C020", "a variable of the environment is missing",
     "${NAME} and {env: NAME} need the variable NAME in the environment of etl-stream. "
     "${NAME:-text} gives a default; $$ is a dollar."},
    {"ETL-C021", "a secret stands in the configuration in clear",
     "Write {env: NAME} or {file: PATH} instead; take a password out of a URL and give it under "
     "`password`. For a quick trial,\n"
     "--allow-plaintext-secrets accepts it with a warning at each start."},
    {"ETL-C022", "a secret's file cannot be used",
     "It must be a regular file, not a link, readable by the user of etl-stream alone: chmod 600 "
     "FILE."},
    {"ETL-C024", "a private key cannot be used",
     "It must be an RSA key of at least 2048 bits in PEM form: PKCS#8, encrypted (then "
     "private_key_passphrase opens it) or not, or\n"
     "PKCS#1. `etl-stream key generate` makes one."},
    {"ETL-C030", "a pipeline names a source or destination that is not defined",
     "Correct the name, or define it under sources or destinations."},
    {"ETL-C040", "this version does not carry this out yet",
     "The key or type exists, but nothing would happen, so it is refused instead of ignored. "
     "Remove it for now."},
    {"ETL-C050", "the catalog was written by a newer version",
     "Use the newer program. Or let `catalog` name a new file: only requests and history are lost, "
     "never a row."},
    {"ETL-C051", "the catalog cannot be opened",
     "`catalog` must name a file in a folder that exists and may be written to."},
    {"ETL-C052", "the catalog's file belongs to another program",
     "Let `catalog` name another file. The file was not touched."},
    {"ETL-C140", "the spill folder cannot be used",
     "Large transactions are set aside in limits.spill_dir. Let it name a folder that may be "
     "written to."},
    // Usage.
    {"ETL-U001", "wrong use of a command",
     "`etl-stream help` lists the commands, `etl-stream help COMMAND` explains one."},
    {"ETL-U002", "there is no such pipeline in the configuration",
     "The message names the ones that are defined."},
    {"ETL-U003", "a question could not be asked",
     "The command takes something away and asks before it does. Off a terminal it needs --yes."},
    {"ETL-U004", "the file exists already",
     "`init` and `key generate` never write over a file. Remove it, or name another one."},
    {"ETL-U005", "the user's other slot for a key is taken",
     "A Snowflake user has two slots for public keys; `key rotate` needs one of them. An earlier "
     "rotation may have left its old key\n"
     "there. If nobody uses that key: UNSET it as the message says, or add --replace-other."},
    // Source.
    {"ETL-S017", "row-level security would hide rows from the copy",
     "The table is set aside. Let the role bypass it (ALTER ROLE … BYPASSRLS) or own the table, "
     "then `pipeline start`."},
    {"ETL-S018", "the role may not read a table",
     "GRANT SELECT ON the table TO the role, then `pipeline start`."},
    {"ETL-S101", "the source cannot be reached",
     "Nobody answered at the address. Look at host, port and firewall. `run` goes on trying; "
     "nothing is lost meanwhile, but WAL\n"
     "gathers at the source."},
    {"ETL-S102", "TLS failed",
     "The certificate was not accepted. sslmode is verify-full unless written; name your authority "
     "with sslrootcert=FILE in the url."},
    {"ETL-S103", "the source refused the user",
     "Look at user, password and pg_hba.conf; the role needs LOGIN and REPLICATION."},
    {"ETL-S104", "not a direct connection",
     "A connection pooler stands between. Replication needs a direct connection to PostgreSQL."},
    {"ETL-S105", "there is no such database", "Correct the database name in the source's url."},
    {"ETL-S106", "no connection or WAL sender is free",
     "Raise max_connections or max_wal_senders, or end unused sessions."},
    {"ETL-S107", "no replication slot is free",
     "Raise max_replication_slots, or drop slots that nobody uses (pg_replication_slots)."},
    {"ETL-S108", "wal_level is not logical",
     "ALTER SYSTEM SET wal_level = logical; then restart the server."},
    {"ETL-S109", "the server's version or state is not supported",
     "PostgreSQL 14 to 18 are supported. The message says what was found."},
    {"ETL-S110", "updates and deletes cannot be matched to rows",
     "The table has no usable key. Give it a primary key, or ALTER TABLE … REPLICA IDENTITY USING "
     "INDEX … (unique, not null), or FULL."},
    {"ETL-S111", "a key column is not published",
     "The publication's column list must hold every column of the key."},
    {"ETL-S112", "a rule for columns cannot be applied",
     "`columns` names a column that the table does not have, or one of its key."},
    {"ETL-S113", "a rule for columns names a part of the key",
     "Rows are found by their key. Take the column out of `columns`."},
    {"ETL-S115", "nothing is left to copy",
     "The table has no columns, or all are excluded. Leave it out of `tables`."},
    {"ETL-S116", "a row or a name does not fit",
     "A row is larger than PostgreSQL can send, or a column has a name that etl-stream needs for "
     "itself. Leave the table out of\n"
     "`tables`, or exclude the column."},
    {"ETL-S117", "text in another encoding",
     "The server could not turn a value into UTF-8. Correct the value at the source."},
    {"ETL-S118", "columns differ only in case",
     "Not every destination tells them apart. Rename one at the source, or exclude it with "
     "`columns`."},
    {"ETL-S119", "the schema _etl is reserved",
     "In the destination it holds bookkeeping. Leave the table out of `tables`."},
    {"ETL-S120", "the publication is missing",
     "Give `tables`, so that etl-stream makes it, or CREATE PUBLICATION as the message says. If it "
     "existed before: pipeline resync."},
    {"ETL-S121", "the table left the publication",
     "The copy stays as it is. Publish the table again and `pipeline resync --table`."},
    {"ETL-S122", "publications disagree about columns",
     "One table must not have different column lists in the publications used."},
    {"ETL-S123", "the table cannot go on",
     "Its structure changed in a way that needs a new copy: pipeline resync PIPELINE --table "
     "TABLE."},
    {"ETL-S140", "a change without a key",
     "The table has no replica identity. See ETL-S110; then pipeline resync --table."},
    {"ETL-S141", "a change without its old row",
     "The replica identity was changed while changes were on their way: pipeline resync --table."},
    {"ETL-S142", "a change does not fit the table",
     "The structure of the table is not the one that was known: pipeline resync --table."},
    {"ETL-S199", "the source answered with an error", "The server's own words are in the message."},
    {"ETL-S201", "the replication slot is missing",
     "Somebody dropped it, or the server was replaced. What is at the destination is complete up "
     "to its position. To go on:\n"
     "etl-stream pipeline resync PIPELINE"},
    {"ETL-S202", "the replication slot is in use",
     "Another session reads from it (pg_stat_replication). End it; a runner tries again by "
     "itself."},
    {"ETL-S203", "the replication slot was invalidated",
     "PostgreSQL removed WAL that was not read yet, because the pipeline stood still too long "
     "(max_slot_wal_keep_size). The\n"
     "destination is complete up to its position. To go on: etl-stream pipeline resync PIPELINE"},
    {"ETL-S204", "the connection to the source was lost",
     "The server was restarted, failed over, or ended the session. It is tried again; nothing is "
     "lost."},
    {"ETL-S205", "the source has another history",
     "It was restored, replaced or rewound: positions of the destination mean nothing there. "
     "etl-stream pipeline resync PIPELINE"},
    {"ETL-S206", "the slot was moved by somebody else",
     "It stands beyond what the destination has, so changes in between cannot be had. etl-stream "
     "pipeline resync PIPELINE"},
    {"ETL-S207", "the slot cannot decode a transaction",
     "PostgreSQL forgets schema changes (also TRUNCATE and rewrites of a table) that are committed "
     "while it creates a slot and waits\nfor transactions that are open. etl-stream looks for such "
     "changes and creates its own slot again; a slot that was created\nby hand may have the fault, "
     "and never loses it. The destination is complete up to its position. To go on, with a new "
     "slot:\netl-stream pipeline resync PIPELINE"},
    {"ETL-S208", "a WAL segment is missing at the moment",
     "The server looks for it in its archive. It is tried again."},
    {"ETL-S209", "the schema changed while the slot was created",
     "PostgreSQL would decode later changes with the tables as they were (see ETL-S207), so the "
     "slot was dropped. It is tried again;\nit succeeds once no CREATE, ALTER, DROP or TRUNCATE is "
     "committed while older transactions are being waited for."},
    {"ETL-S210", "the source stands elsewhere than expected",
     "It is tried again; if it stays, etl-stream pipeline resync PIPELINE."},
    {"ETL-S220", "a transaction is larger than the spill limit",
     "What is open at the source is kept on disk past a share of limits.memory. Raise "
     "limits.spill, or give limits.spill_dir more room, and start the program again."},
    {"ETL-S221", "the server could not send a transaction that is still open",
     "It happens when a part of it that changed a table's definition was rolled back. It is "
     "received after its commit instead, without anybody's help."},
    // Destination.
    {"ETL-D101", "the destination cannot be reached",
     "Look at its path or address. `run` goes on trying."},
    {"ETL-D102", "the destination could not prove who it is",
     "Its TLS certificate was not accepted: look at the address, at the clock, and at the "
     "authorities that this machine trusts\n"
     "(SSL_CERT_FILE names others). Nothing was sent."},
    {"ETL-D103", "the destination refused the key",
     "Snowflake does not accept tokens signed with it. DESC USER must show its fingerprint as "
     "RSA_PUBLIC_KEY_FP or\n"
     "RSA_PUBLIC_KEY_2_FP; account and user must be right too. `etl-stream key generate` prints "
     "how "
     "a key is registered."},
    {"ETL-D104", "the destination does not allow it",
     "The role lacks a right. `etl-stream check --fix-sql` prints the SQL that grants it."},
    {"ETL-D105", "Snowflake refused a statement", "Snowflake's own words are in the message."},
    {"ETL-D106", "an object is missing at Snowflake",
     "It does not exist, or the role may not see it: Snowflake does not tell the two apart. "
     "Snowflake's own words are in the message."},
    {"ETL-D107", "somebody else writes to the same channel",
     "A pipeline has one runner. Another process, perhaps on another machine, opened the channel; "
     "nothing was lost. End it."},
    {"ETL-D108", "a channel cannot be continued at the moment",
     "It was dropped, made anew, or its earlier rows are not committed yet. Work is begun again "
     "from what is committed; nothing\n"
     "is lost or repeated."},
    {"ETL-D109", "a request is too large for the destination",
     "One row, compressed, must fit into 4 MB. See on_unrepresentable."},
    {"ETL-D110", "the destination asks for a pause",
     "Too many requests. It is tried again after the pause that was asked for; nothing is lost."},
    {"ETL-D111", "no answer from the destination",
     "It is not known whether the last request was carried out. That is looked up when work goes "
     "on; nothing is lost or repeated."},
    {"ETL-D112", "the destination did not take all rows",
     "Snowflake rejected a row, or counts fewer than were sent. Nothing from there on was "
     "confirmed "
     "to the source. The message has\n"
     "Snowflake's own words; ERROR_TABLE(<landing table>) shows the rows."},
    {"ETL-D113", "an answer of the destination cannot be understood",
     "Snowflake's own words are in the message. If it stays, please report it with the log."},
    {"ETL-D120", "the destination's table does not fit",
     "A table of that name was not made by etl-stream, or cannot be changed as the source was: "
     "rename or drop it, then pipeline resync --table. Or it has more columns than DuckDB can "
     "append to within its part of limits.memory: the message says how much it needs."},
    {"ETL-D121", "the DuckDB file cannot be opened",
     "DuckDB's own words are in the message: another version's format, a damaged file, or missing "
     "rights."},
    {"ETL-D122", "the DuckDB file cannot be opened",
     "DuckDB's own words are in the message. Name another file, or restore this one."},
    {"ETL-D123", "the file's bookkeeping was written by a newer version",
     "Use the newer program, or another file."},
    {"ETL-D124", "there is no DuckDB file yet",
     "It is made by the first `etl-stream sync` or `etl-stream run`."},
    {"ETL-D125", "the query cannot be run",
     "`query` runs one statement that gives rows, and nothing can be changed. DuckDB's own words "
     "are "
     "in the message."},
    {"ETL-D126", "the pipeline's tables were filled in another mode",
     "A table holds the source's rows (mirror) or their changes (append), and one does not become "
     "the other. Set `mode` as it was;\n"
     "or let the pipeline write into another file, which is then filled from the start. The file "
     "was not changed."},
    {"ETL-D130", "there is no space left for the destination",
     "The message names the file, or the folder into which DuckDB spills what does not fit into "
     "memory. What was stored stays, position and rows together; nothing of the transaction at "
     "hand "
     "was stored.\n"
     "Free some space (or raise limits.spill or limits.memory, if it is the folder). `run` tries "
     "again for ever and goes on where it stopped; `sync` gives up after retry.give_up, and goes "
     "on "
     "when it is started again."},
    {"ETL-D131", "the DuckDB file is held by another process",
     "DuckDB lets one process in at a time. A runner lets go of the file after `release` without "
     "changes; end any other process.\n"
     "A pipeline tries again by itself."},
    {"ETL-D132", "DuckDB ran out of memory",
     "Nothing of the transaction at hand was stored. Raise limits.memory, of which DuckDB has a "
     "half; to append to a table it needs about 0.5 MiB for each of its columns at once (`check` "
     "tells), and to commit, room for 2,048 of the table's rows: 200 MiB where they have 100 KiB. "
     "Or raise limits.spill, or the free space of its folder, where what may be spilled is "
     "used up."},
    {"ETL-D133", "it is not known whether a transaction was stored",
     "It is looked up at the next start; nothing is lost or repeated."},
    {"ETL-D134", "DuckDB refused a transaction", "It is tried again from the stored position."},
    {"ETL-D135", "a table changed while it was copied", "The copy is begun again."},
    {"ETL-D140", "a value or table cannot be stored",
     "The message names row and column. See on_unrepresentable."},
    {"ETL-D141", "DuckDB refused a statement", "DuckDB's own words are in the message."},
    {"ETL-D142", "a value does not have the form of its type",
     "This should not happen: please report it with the log."},
    {"ETL-D143", "HMAC-SHA-256 is not available",
     "`columns: hash` needs it. Look at the OpenSSL library of this machine."},
    {"ETL-D144", "a value could not be hashed",
     "This should not happen: please report it with the log."},
    {"ETL-D145", "a value has other attributes than the table showed",
     "A composite type was changed (ALTER TYPE). The table is copied again by itself; if it is "
     "not, "
     "please report it with the log."},
    {"ETL-D146", "rows could not be made into a request",
     "This should not happen: please report it with the log."},
    {"ETL-D331", "a key changed together with rows",
     "Rows of before a change of the key are merged under the former one first, and only whole "
     "transactions are. One that changed rows and the key, or other tables before that, cannot be "
     "taken apart. etl-stream pipeline resync PIPELINE --table TABLE"},
    {"ETL-D330", "a column's type cannot be changed in place",
     "Snowflake does not alter a column of this type to the new one, so the table is copied again. "
     "If "
     "it is set aside instead: etl-stream pipeline resync PIPELINE --table TABLE"},
    {"ETL-D150", "the destination's rows are not what they should be",
     "Somebody changed the table. etl-stream pipeline resync PIPELINE --table TABLE"},
    {"ETL-D151", "a stored copy cannot be continued",
     "etl-stream pipeline resync PIPELINE --table TABLE"},
    {"ETL-D190", "DuckDB answered with an unexpected error",
     "DuckDB's own words are in the message."},
    // Stream.
    {"ETL-P301", "a message of the stream cannot be read",
     "The server sent something unknown: please report it with the server's version."},
    {"ETL-P310", "a value cannot be read",
     "The server sent a value in an unexpected form: please report it with the column's type."},
    // Running.
    {"ETL-R101", "the memory budget is too small", "Raise limits.memory."},
    {"ETL-R102", "the catalog or the spill folder cannot be written",
     "Look at the free space of the disk. It is tried again."},
    {"ETL-R103", "the catalog is damaged",
     "It is renamed to …damaged and a new one is made. Requests and history are lost; no row is: "
     "the destination knows its position."},
    {"ETL-R104", "another process runs this pipeline",
     "A pipeline has one runner. End the other process, or leave it to its work."},
    {"ETL-R107", "the catalog is held by another process", "Try again."},
    {"ETL-R110", "the request was noted, but not obeyed yet",
     "The runner will obey; `etl-stream status` shows when."},
    {"ETL-X001", "an unexpected error", "This is a bug: please report it with the log."},
    {"ETL-X002", "a broken invariant",
     "This is a bug: please report it with the log. The destination keeps what it has."},
    {"ETL-X003", "the stream is not what it should be",
     "This is a bug: please report it with the log. The destination keeps what it has."},
    {"ETL-X004", "a value cannot be compared",
     "This is a bug: please report it with the type that the message names."},
    {"ETL-S124", "the table waits for its next copy",
     "Its rows changed in a way that cannot be followed, so its changes are not applied until it "
     "is "
     "copied again; that begins by itself within seconds."},
    {"ETL-S125", "a renamed table has lost its rules",
     "`columns` excludes or hashes columns of the table under its old name and says nothing of the "
     "new one. Copying it would show what\n"
     "was to stay at the source, so the table is set aside; its copy stays as it is. Write the "
     "rules "
     "under the new name ({} copies it whole)\n"
     "and start the pipeline again: the table is copied. Rules that were written under the new "
     "name "
     "before it is renamed go on without a stop."},
    {"ETL-S126", "the publication leaves out operations",
     "A copy without a kind of change would differ from the source, in `append` mode too. Do as "
     "the "
     "message says:\n"
     "ALTER PUBLICATION … SET (publish = 'insert, update, delete, truncate'); then `pipeline "
     "start`. Tables are copied again where\n"
     "changes may be missing."},
    {"ETL-S127", "the transport changes to text",
     "A column came whose values only the server can print. The pipeline starts anew by itself and "
     "asks for text; nothing is lost."},
    {"ETL-S128", "the stream is opened anew",
     "Servers before 14.18, 15.13, 16.9 and 17.5 may overlook changes of a table that was "
     "published "
     "while a transaction on it was open. The pipeline starts anew by itself and copies that table "
     "from there; nothing is lost. A newer minor version does without."},
    {"ETL-S130", "some tables were left behind",
     "The others are up to date. The message says why each stopped; mend that, then run "
     "`etl-stream pipeline resync`."},
    {"ETL-U010", "the pipeline has no copy to compare",
     "In append mode the destination holds every change instead of the current rows."},
    {"ETL-U011", "the table is not one of the pipeline",
     "Write it as schema.table; `etl-stream status` lists them."},
    {"ETL-V002", "verify was interrupted", "Nothing was changed. Run it again for a verdict."},
    {"ETL-V003", "nobody could compare",
     "The pipeline is paused, or the process that runs it ended before it came to a verdict. Start "
     "the pipeline, or run verify again."},
    {"ETL-V004", "the pipeline does not stand still",
     "To compare, the pipeline is held for a moment, and it was started anew meanwhile. Look at "
     "`etl-stream status`, then run verify again."},
    {"ETL-V005", "verify waited too long for a snapshot of the source",
     "The source gives a snapshot once the transactions that were open have ended, and one did not "
     "within retry.give_up; a standby, once its primary has logged which are open. The message "
     "names it. Nothing was held up meanwhile."},
    {"ETL-S131", "the pipeline stopped in the process that runs it",
     "`sync` asked that process to bring the destination up to date. The message says why it "
     "stopped; mend that, then\n"
     "etl-stream pipeline start PIPELINE"},
    {"ETL-S132", "the process that runs the pipeline makes no progress",
     "`sync` gave up waiting after retry.give_up. `etl-stream status` shows what stands in the "
     "way."},
};

char Upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

}  // namespace

std::span<const ErrorPage> ErrorPages() { return kPages; }

const ErrorPage* FindErrorPage(std::string_view code) {
  std::string wanted;
  for (char c : code) wanted += Upper(c);
  if (!wanted.starts_with("ETL-")) wanted = "ETL-" + wanted;
  for (const ErrorPage& page : kPages) {
    if (page.code == wanted) return &page;
  }
  return nullptr;
}

}  // namespace etl
