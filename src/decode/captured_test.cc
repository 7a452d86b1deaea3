// Streams that tools/capture_streams took from a real server.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "decode/pgoutput.h"

namespace etl {
namespace {

std::vector<std::string> Captured(const std::string& name) {
  std::ifstream file(std::string(ETL_TESTDATA) + "/" + name + ".hex");
  EXPECT_TRUE(file.good()) << name;
  std::vector<std::string> messages;
  std::string line;
  while (std::getline(file, line)) {
    std::string bytes;
    for (size_t i = 0; i + 1 < line.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    }
    messages.push_back(std::move(bytes));
  }
  return messages;
}

// A row message without what differs between the forms of one stream: the xid of a streamed block.
std::string Show(const DecodedMessage& message) {
  std::string text(1, static_cast<char>(message.type));
  text += " " + std::to_string(message.table.oid);
  const auto add = [&](const std::vector<Cell>& cells) {
    for (const Cell& cell : cells) text += std::string("|") + cell.kind + std::string(cell.bytes);
  };
  if (message.old_kind != 0) text += std::string(" ") + message.old_kind;
  add(message.old_cells);
  text += ">";
  add(message.cells);
  for (TableId table : message.tables) text += " " + std::to_string(table.oid);
  return text;
}

// The committed transactions of a capture: their row messages by commit LSN, aborted
// subtransactions taken out. The state machine of the protocol is checked on the way.
std::map<uint64_t, std::vector<std::string>> Transactions(const std::string& name) {
  std::map<uint64_t, std::vector<std::string>> committed;
  std::map<uint32_t, std::vector<std::pair<uint32_t, std::string>>>
      streamed;  // Top-level xid → (own xid, row).
  std::vector<std::string> open;
  std::map<std::string, std::vector<std::string>> prepared;
  bool in_transaction = false;
  uint32_t block = 0;
  DecodedMessage message;
  for (const std::string& payload : Captured(name)) {
    const Status status = DecodeMessage(payload, block != 0, &message);
    EXPECT_TRUE(status.ok()) << name << ": " << ErrorLine(status);
    if (!status.ok()) return committed;
    switch (message.type) {
      case MessageType::kBegin:
      case MessageType::kBeginPrepare:
        EXPECT_FALSE(in_transaction || block != 0);
        in_transaction = true;
        open.clear();
        break;
      case MessageType::kCommit:
        EXPECT_TRUE(in_transaction);
        EXPECT_GT(message.end_lsn, message.lsn);
        if (!open.empty()) committed[message.lsn.value] = open;
        in_transaction = false;
        break;
      case MessageType::kPrepare:
        prepared[std::string(message.content)] = open;
        in_transaction = false;
        break;
      case MessageType::kCommitPrepared:
        if (!prepared[std::string(message.content)].empty())
          committed[message.lsn.value] = prepared[std::string(message.content)];
        break;
      case MessageType::kRollbackPrepared: prepared.erase(std::string(message.content)); break;
      case MessageType::kStreamStart: block = message.xid; break;
      case MessageType::kStreamStop: block = 0; break;
      case MessageType::kStreamAbort:
        if (message.subxid == message.xid) {
          streamed.erase(message.xid);
        } else {
          std::erase_if(streamed[message.xid],
                        [&](const auto& row) { return row.first == message.subxid; });
        }
        break;
      case MessageType::kStreamCommit:
        for (auto& [xid, row] : streamed[message.xid])
          committed[message.lsn.value].push_back(std::move(row));
        break;
      case MessageType::kInsert:
      case MessageType::kUpdate:
      case MessageType::kDelete:
      case MessageType::kTruncate:
        EXPECT_TRUE(in_transaction || block != 0);
        if (block != 0) {
          streamed[block].emplace_back(message.xid, Show(message));
        } else {
          open.push_back(Show(message));
        }
        break;
      default: break;
    }
  }
  EXPECT_FALSE(in_transaction || block != 0);
  return committed;
}

TEST(Captured, StreamedTransactionsEqualThoseSentAtCommit) {
  const auto at_commit = Transactions("protocol1_text");
  const auto streamed = Transactions("protocol2_streaming");
  ASSERT_GT(at_commit.size(), 8u);
  EXPECT_EQ(at_commit, streamed);
  size_t rows = 0;
  for (const auto& [lsn, transaction] : streamed) rows = std::max(rows, transaction.size());
  EXPECT_EQ(rows, 602u);  // Of the large transaction, without its rolled back savepoint.
}

TEST(Captured, PreparedTransactionsHoldTheSameRows) {
  const auto at_commit = Transactions("protocol1_text");
  const auto two_phase = Transactions("protocol3_streaming_two_phase");
  EXPECT_EQ(at_commit, two_phase);
}

TEST(Captured, BinaryHasTheSameMessages) {
  const auto text = Transactions("protocol1_text");
  const auto binary = Transactions("protocol1_binary");
  ASSERT_EQ(text.size(), binary.size());
  for (const auto& [lsn, rows] : text) EXPECT_EQ(rows.size(), binary.at(lsn).size());
}

TEST(Captured, EveryCutIsAnErrorAndNoCrash) {
  DecodedMessage message;
  for (const std::string& payload : Captured("protocol1_binary")) {
    for (size_t size = 0; size < payload.size(); ++size) {
      EXPECT_FALSE(DecodeMessage(std::string_view(payload).substr(0, size), false, &message).ok());
    }
  }
}

}  // namespace
}  // namespace etl
