#include "decode/pgoutput.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace etl {
namespace {

// Bytes from hex; spaces are skipped.
std::string Hex(std::string_view hex) {
  std::string bytes;
  std::string pair;
  for (const char c : hex) {
    if (c == ' ') continue;
    pair.push_back(c);
    if (pair.size() < 2) continue;
    bytes.push_back(static_cast<char>(std::stoi(pair, nullptr, 16)));
    pair.clear();
  }
  EXPECT_TRUE(pair.empty());
  return bytes;
}

DecodedMessage Decode(const std::string& bytes, bool in_stream_block = false) {
  DecodedMessage message;
  const Status status = DecodeMessage(bytes, in_stream_block, &message);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return message;
}

std::string Show(const std::vector<Cell>& cells) {
  std::string text;
  for (const Cell& cell : cells) {
    text += cell.kind;
    if (cell.kind == 't') text += "=" + std::string(cell.bytes);
    if (cell.kind == 'b') text += "#" + std::to_string(cell.bytes.size());
    text += ' ';
  }
  return text;
}

// Messages as a server of version 16 sent them, for t(id int primary key, v text, e e) and f(id int
// primary key, n numeric(6,2)) with REPLICA IDENTITY FULL.
const char* const kGolden[] = {
    "42 000000000348d810 000303ecab34c7cd 000003ab",
    "59 000040ab 7075626c696300 6500",
    "52 000040ad 7075626c696300 7400 64 0003 01 696400 00000017 ffffffff 00 7600 00000019 ffffffff "
    "00 6500 000040ab "
    "ffffffff",
    "52 000040b4 7075626c696300 6600 66 0002 01 696400 00000017 ffffffff 01 6e00 000006a4 00060006",
    "49 000040ad 4e 0003 74 00000001 31 74 00000001 61 74 00000001 78",
    "49 000040ad 4e 0003 62 00000004 00000001 62 00000001 61 62 00000001 78",
    "49 000040b4 4e 0002 62 00000004 00000002 62 0000000c 0002000000000002 0001 1388",
    "55 000040ad 4e 0003 74 00000001 31 74 00000001 62 74 00000001 78",
    "55 000040ad 4b 0003 74 00000001 31 6e 6e 4e 0003 74 00000001 32 74 00000001 62 74 00000001 78",
    "55 000040b4 4f 0002 74 00000001 31 74 00000004 312e3530 4e 0002 74 00000001 31 6e",
    "44 000040ad 4b 0003 74 00000001 32 6e 6e",
    "44 000040b4 4f 0002 74 00000001 31 6e",
    "54 00000002 01 000040ad 000040b4",
    "4d 01 000000000348d810 70667800 00000002 6869",
    "43 00 000000000348d810 000000000348da18 000303ecab34c7cd",
    "4f 000000000000aaaa 6f6700",
    "53 000003b0 01",
    "45",
    "41 000003b0 000003b1 00000000034e71e0 000303ecab541ace",
    "63 000003b0 00 00000000034e7268 00000000034e72a0 000303ecab541b38",
    "62 000000000348de58 000000000348df50 000303ecab53cbe7 000003ae 673100",
    "50 00 000000000348de58 000000000348df50 000303ecab53cbe7 000003ae 673100",
    "4b 00 000000000348df50 000000000348df88 000303ecab53cdf4 000003ae 673100",
    "72 00 000000000348e118 000000000348e150 000303ecab53cfa5 000303ecab53d171 000003af 673200",
    "70 00 0000000003513d80 0000000003513e78 000303ecab542497 000003b3 673300",
};

TEST(PgOutput, BeginGivesPositionTimeAndTransaction) {
  const DecodedMessage message = Decode(Hex(kGolden[0]));
  EXPECT_EQ(message.type, MessageType::kBegin);
  EXPECT_EQ(message.lsn.value, 0x348d810u);
  EXPECT_EQ(message.xid, 0x3abu);
  EXPECT_EQ(message.time, 0x000303ecab34c7cd + 946684800000000);
}

TEST(PgOutput, TypeAndRelationGiveNamesAndColumns) {
  const std::string type = Hex(kGolden[1]);
  DecodedMessage message = Decode(type);
  EXPECT_EQ(message.type_oid, 0x40abu);
  EXPECT_EQ(message.schema, "public");
  EXPECT_EQ(message.name, "e");

  const std::string relation = Hex(kGolden[3]);
  message = Decode(relation);
  EXPECT_EQ(message.table.oid, 0x40b4u);
  EXPECT_EQ(message.name, "f");
  EXPECT_EQ(message.replica_identity, 'f');
  ASSERT_EQ(message.columns.size(), 2u);
  EXPECT_TRUE(message.columns[1].key);
  EXPECT_EQ(message.columns[1].name, "n");
  EXPECT_EQ(message.columns[1].type_oid, 1700u);
  EXPECT_EQ(message.columns[1].typmod, 0x00060006);
  const std::string other = Hex(kGolden[2]);
  EXPECT_FALSE(Decode(other).columns[1].key);
}

TEST(PgOutput, RowsGiveOldAndNewCells) {
  std::string bytes = Hex(kGolden[4]);
  EXPECT_EQ(Show(Decode(bytes).cells), "t=1 t=a t=x ");
  bytes = Hex(kGolden[6]);
  EXPECT_EQ(Show(Decode(bytes).cells), "b#4 b#12 ");
  bytes = Hex(kGolden[7]);
  DecodedMessage message = Decode(bytes);
  EXPECT_EQ(message.old_kind, 0);
  EXPECT_EQ(message.old_cells.size(), 0u);
  bytes = Hex(kGolden[8]);
  message = Decode(bytes);
  EXPECT_EQ(message.old_kind, 'K');
  EXPECT_EQ(Show(message.old_cells), "t=1 n n ");
  EXPECT_EQ(Show(message.cells), "t=2 t=b t=x ");
  bytes = Hex(kGolden[9]);
  message = Decode(bytes);
  EXPECT_EQ(message.old_kind, 'O');
  EXPECT_EQ(Show(message.old_cells), "t=1 t=1.50 ");
  EXPECT_EQ(Show(message.cells), "t=1 n ");
  bytes = Hex(kGolden[10]);
  message = Decode(bytes);
  EXPECT_EQ(message.type, MessageType::kDelete);
  EXPECT_EQ(message.old_kind, 'K');
  EXPECT_EQ(Show(message.old_cells), "t=2 n n ");
  EXPECT_EQ(message.cells.size(), 0u);
}

TEST(PgOutput, UnchangedToastIsKindU) {
  const std::string bytes = Hex("55 000040ad 4e 0002 74 00000001 31 75");
  EXPECT_EQ(Show(Decode(bytes).cells), "t=1 u ");
}

TEST(PgOutput, TruncateNamesAllTables) {
  const DecodedMessage message = Decode(Hex(kGolden[12]));
  EXPECT_EQ(message.flags, 1);
  EXPECT_EQ(message.tables, (std::vector<TableId>{TableId{0x40ad}, TableId{0x40b4}}));
}

TEST(PgOutput, CommitAndMessageAndOrigin) {
  std::string bytes = Hex(kGolden[13]);
  DecodedMessage message = Decode(bytes);
  EXPECT_EQ(message.flags, 1);
  EXPECT_EQ(message.name, "pfx");
  EXPECT_EQ(message.content, "hi");
  message = Decode(Hex(kGolden[14]));
  EXPECT_EQ(message.lsn.value, 0x348d810u);
  EXPECT_EQ(message.end_lsn.value, 0x348da18u);
  bytes = Hex(kGolden[15]);
  message = Decode(bytes);
  EXPECT_EQ(message.lsn.value, 0xaaaau);
  EXPECT_EQ(message.name, "og");
}

TEST(PgOutput, StreamedTransactionsAndAborts) {
  DecodedMessage message = Decode(Hex(kGolden[16]));
  EXPECT_EQ(message.xid, 0x3b0u);
  EXPECT_TRUE(message.first_segment);
  EXPECT_FALSE(Decode(Hex("53 000003b0 00")).first_segment);
  message = Decode(Hex(kGolden[18]));
  EXPECT_EQ(message.subxid, 0x3b1u);
  EXPECT_EQ(message.lsn.value, 0x34e71e0u);
  message = Decode(Hex("41 000003b0 000003b1"));
  EXPECT_EQ(message.subxid, 0x3b1u);
  EXPECT_FALSE(message.lsn.valid());
  message = Decode(Hex(kGolden[19]));
  EXPECT_EQ(message.xid, 0x3b0u);
  EXPECT_EQ(message.end_lsn.value, 0x34e72a0u);
}

TEST(PgOutput, RowsWithinAStreamBlockCarryTheSubtransaction) {
  const std::string bytes = Hex("49 000003b1 000040ad 4e 0001 6e");
  const DecodedMessage message = Decode(bytes, /*in_stream_block=*/true);
  EXPECT_EQ(message.xid, 0x3b1u);
  EXPECT_EQ(message.table.oid, 0x40adu);
  const std::string truncate = Hex("54 000003b1 00000001 00 000040ad");
  EXPECT_EQ(Decode(truncate, true).tables.size(), 1u);
  DecodedMessage out;
  EXPECT_FALSE(DecodeMessage(bytes, /*in_stream_block=*/false, &out).ok());
}

TEST(PgOutput, PreparedTransactionsCarryTheirGid) {
  for (const size_t i : {20, 21, 22, 24}) {
    const std::string bytes = Hex(kGolden[i]);
    const DecodedMessage message = Decode(bytes);
    EXPECT_EQ(message.content.substr(0, 1), "g");
    EXPECT_TRUE(message.end_lsn.valid());
    EXPECT_NE(message.xid, 0u);
  }
  const std::string bytes = Hex(kGolden[23]);
  const DecodedMessage message = Decode(bytes);
  EXPECT_EQ(message.lsn.value, 0x348e118u);
  EXPECT_EQ(message.time, 0x000303ecab53d171 + 946684800000000);
  EXPECT_EQ(message.content, "g2");
}

TEST(PgOutput, EveryTruncationIsAnError) {
  for (const char* golden : kGolden) {
    const std::string bytes = Hex(golden);
    for (size_t size = 0; size < bytes.size(); ++size) {
      if (bytes[0] == 'A' && size == 9) continue;  // the short form
      // A copy of its own size, so that a sanitizer sees every read past the end.
      const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
      DecodedMessage out;
      const Status status = DecodeMessage({cut.data(), cut.size()}, false, &out);
      ASSERT_FALSE(status.ok()) << golden << " cut to " << size;
      EXPECT_EQ(KindOf(status), ErrorKind::kInternal);
    }
  }
}

TEST(PgOutput, LeftoverBytesAreAnError) {
  for (const char* golden : kGolden) {
    DecodedMessage out;
    EXPECT_FALSE(DecodeMessage(Hex(golden) + '\0', false, &out).ok()) << golden;
  }
}

TEST(PgOutput, UnknownValuesAreErrors) {
  DecodedMessage out;
  for (const char* bad : {
           "7a 00",                                                              // type
           "43 01 000000000348d810 000000000348da18 000303ecab34c7cd",           // flags of C
           "63 000003b0 02 00000000034e7268 00000000034e72a0 000303ecab541b38",  // flags of c
           "50 01 000000000348de58 000000000348df50 000303ecab53cbe7 000003ae 673100",
           "4b 01 000000000348df50 000000000348df88 000303ecab53cdf4 000003ae 673100",
           "70 01 0000000003513d80 0000000003513e78 000303ecab542497 000003b3 673300",
           "54 00000001 04 000040ad",                                  // flags of T
           "54 ffffffff 00 000040ad",                                  // count of T
           "49 000040ad 4f 0001 6e",                                   // O in an insert
           "49 000040ad 4e 0001 7a",                                   // kind of a cell
           "49 000040ad 4e ffff 6e",                                   // count of cells
           "49 000040ad 4e 0001 74 ffffffff 31",                       // length of a cell
           "44 000040ad 4e 0001 6e",                                   // N in a delete
           "53 000003b0 02",                                           // first segment
           "52 000040ad 7000 7400 78 0000",                            // replica identity
           "52 000040ad 7000 7400 64 0001 02 6900 00000017 ffffffff",  // flags of a column
       }) {
    EXPECT_FALSE(DecodeMessage(Hex(bad), false, &out).ok()) << bad;
  }
}

TEST(PgOutput, AMessageLeavesNothingToTheNext) {
  DecodedMessage out;
  const std::string update = Hex(kGolden[9]);
  const std::string insert = Hex(kGolden[4]);
  ASSERT_TRUE(DecodeMessage(update, false, &out).ok());
  ASSERT_TRUE(DecodeMessage(insert, false, &out).ok());
  EXPECT_EQ(out.old_kind, 0);
  EXPECT_EQ(out.old_cells.size(), 0u);
  EXPECT_EQ(out.cells.size(), 3u);
}

TEST(ReplicationFrame, KeepaliveAndData) {
  auto frame = ParseReplicationFrame(Hex("6b 000000000348c330 000303ecab34f1c0 00"));
  ASSERT_TRUE(frame.ok());
  EXPECT_TRUE(frame->keepalive);
  EXPECT_EQ(frame->wal_end.value, 0x348c330u);
  EXPECT_FALSE(frame->reply_requested);
  const std::string data = Hex("77 0000000000000001 0000000000000002 000303ecab34f1c0 45");
  frame = ParseReplicationFrame(data);
  ASSERT_TRUE(frame.ok());
  EXPECT_FALSE(frame->keepalive);
  EXPECT_EQ(frame->start.value, 1u);
  EXPECT_EQ(frame->wal_end.value, 2u);
  EXPECT_EQ(frame->payload, "E");
  EXPECT_EQ(frame->send_time, 0x000303ecab34f1c0 + 946684800000000);
}

TEST(ReplicationFrame, OtherSizesAndTypesAreErrors) {
  const std::string keepalive = Hex("6b 000000000348c330 000303ecab34f1c0 00");
  for (size_t size = 0; size < keepalive.size(); ++size) {
    EXPECT_FALSE(ParseReplicationFrame(keepalive.substr(0, size)).ok());
  }
  EXPECT_FALSE(ParseReplicationFrame(keepalive + "x").ok());
  EXPECT_FALSE(ParseReplicationFrame("x").ok());
  EXPECT_FALSE(
      ParseReplicationFrame(Hex("77 0000000000000001 0000000000000002 000303ecab34f1")).ok());
}

TEST(ReplicationFrame, StandbyStatusIsAsTheServerReadsIt) {
  const auto bytes =
      EncodeStandbyStatus(Lsn{0x0102030405060708}, Lsn{0x1112131415161718}, 946684800000001, true);
  EXPECT_EQ(std::string(bytes.data(), bytes.size()),
            Hex("72 0102030405060708 1112131415161718 1112131415161718 0000000000000001 01"));
}

}  // namespace
}  // namespace etl
