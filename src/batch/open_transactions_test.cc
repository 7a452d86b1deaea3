#include "batch/open_transactions.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace etl {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A row message inside a streamed block: the subtransaction's xid stands after the type.
std::string Streamed(uint32_t subxid, std::string_view plain) {
  std::string message(1, plain[0]);
  for (int shift = 24; shift >= 0; shift -= 8)
    message.push_back(static_cast<char>(subxid >> shift));
  message.append(plain.substr(1));
  return message;
}

class OpenTransactionsTest : public testing::Test {
 protected:
  void Use(OpenTransactionsOptions options) {
    options.spill_dir = testing::TempDir();
    open_ = std::make_unique<OpenTransactions>(options, &memory_);
  }
  void SetUp() override { Use({}); }

  /// One block of `xid`, with messages of the form I… as they would be without streaming.
  void Block(uint32_t xid, bool first, uint32_t subxid, const std::vector<std::string>& messages) {
    ASSERT_TRUE(open_->OpenBlock(xid, first).ok());
    for (const std::string& message : messages) {
      ASSERT_TRUE(open_->Add(Streamed(subxid, message), ++number_).ok());
    }
    ASSERT_TRUE(open_->CloseBlock().ok());
  }
  std::vector<std::string> Committed(uint32_t xid) {
    std::vector<std::string> messages;
    Result<std::unique_ptr<TransactionLog>> log = open_->Commit(xid);
    EXPECT_TRUE(log.ok()) << ErrorLine(log.status());
    while (log.ok() && !(*log)->at_end()) {
      Result<std::optional<std::string_view>> next = (*log)->Next();
      EXPECT_TRUE(next.ok()) << ErrorLine(next.status());
      if (!next.ok()) break;
      if (*next) messages.emplace_back(**next);
      if (*next && (**next)[0] == 'R') relation_numbers_.push_back((*log)->relation_number());
    }
    return messages;
  }

  ByteBudget memory_{1 << 30};
  ByteBudget disk_{1 << 30};
  uint64_t number_ = 0;
  std::vector<uint64_t> relation_numbers_;
  std::unique_ptr<OpenTransactions> open_;
};

TEST_F(OpenTransactionsTest, GivesTheMessagesAsTheyWouldBeWithoutStreaming) {
  Block(7, true, 7, {"Rtable", "Irow"});
  Block(7, false, 7, {"Uother", "T"});
  EXPECT_THAT(Committed(7), ElementsAre("Rtable", "Irow", "Uother", "T"));
  EXPECT_EQ(open_->size(), 0U);
  EXPECT_EQ(memory_.used(), 0);
}

TEST_F(OpenTransactionsTest, KeepsInterleavedTransactionsApart) {
  Block(7, true, 7, {"I1"});
  Block(8, true, 8, {"I2"});
  Block(7, false, 7, {"I3"});
  Block(8, false, 8, {"I4"});
  EXPECT_THAT(Committed(8), ElementsAre("I2", "I4"));
  EXPECT_THAT(Committed(7), ElementsAre("I1", "I3"));
}

TEST_F(OpenTransactionsTest, LeavesOutOnlyTheSubtransactionThatIsRolledBack) {
  Block(7, true, 7, {"I1"});
  Block(7, false, 100, {"I2"});
  Block(7, false, 101, {"I3"});
  Block(7, false, 100, {"I4"});
  open_->Abort(7, 101);
  Block(7, false, 102, {"I5"});
  EXPECT_THAT(Committed(7), ElementsAre("I1", "I2", "I4", "I5"));
}

TEST_F(OpenTransactionsTest, NestedSubtransactionsAreRolledBackByTheirOwnMessages) {
  Block(7, true, 100, {"I1"});
  Block(7, false, 101, {"I2"});
  open_->Abort(7, 101);
  open_->Abort(7, 100);
  Block(7, false, 102, {"I3"});
  EXPECT_THAT(Committed(7), ElementsAre("I3"));
}

TEST_F(OpenTransactionsTest, RollingBackTheWholeLeavesNothing) {
  Use({.memory_bytes = 1, .disk = &disk_});
  Block(7, true, 7, {"I1"});
  Block(8, true, 8, {"I2"});
  open_->Abort(7, 7);
  EXPECT_EQ(open_->size(), 1U);
  EXPECT_THAT(Committed(8), ElementsAre("I2"));
  EXPECT_EQ(memory_.used(), 0);
  EXPECT_EQ(disk_.used(), 0);
  EXPECT_EQ(open_->memory_bytes(), 0);
}

TEST_F(OpenTransactionsTest, ATransactionWithoutRowsIsEmpty) {
  Block(7, true, 7, {});
  EXPECT_THAT(Committed(7), IsEmpty());
}

// The server sends a Relation message again after the subtransaction that brought it is gone.
TEST_F(OpenTransactionsTest, ARelationMessageGoesWithItsSubtransaction) {
  Block(7, true, 7, {"Rold", "I1"});
  Block(7, false, 100, {"Rnew", "I2"});
  open_->Abort(7, 100);
  Block(7, false, 7, {"Rold", "I3"});
  EXPECT_THAT(Committed(7), ElementsAre("Rold", "I1", "Rold", "I3"));
  EXPECT_THAT(relation_numbers_, ElementsAre(1U, 5U));
}

TEST_F(OpenTransactionsTest, KeepsNothingThatIsNoRowAndNoRelation) {
  Block(7, true, 7, {"Ytype", "Mmessage", "I1"});
  ASSERT_TRUE(open_->OpenBlock(7, false).ok());
  ASSERT_TRUE(open_->Add("Oorigin", 0).ok());
  ASSERT_TRUE(open_->CloseBlock().ok());
  EXPECT_THAT(Committed(7), ElementsAre("I1"));
}

TEST_F(OpenTransactionsTest, SpillsTheLargestAndReadsItBackInOrder) {
  Use({.memory_bytes = 100'000, .disk = &disk_});
  std::vector<std::string> expected;
  Block(8, true, 8, {"Ismall"});
  Block(7, true, 7, {});
  for (int i = 0; i < 3000; ++i) {
    const std::string row =
        "I" + std::to_string(i) + std::string(static_cast<size_t>(i % 200), 'x');
    Block(7, false, i % 5 == 0 ? 100 : 7, {row});
    if (i % 5 != 0) expected.push_back(row);
    ASSERT_LE(open_->memory_bytes(), 100'000);
  }
  EXPECT_GT(disk_.used(), 100'000);
  open_->Abort(7, 100);
  EXPECT_EQ(Committed(7), expected);
  EXPECT_EQ(disk_.used(), 0);
  EXPECT_THAT(Committed(8), ElementsAre("Ismall"));
  EXPECT_EQ(memory_.used(), 0);
}

TEST_F(OpenTransactionsTest, SpillsEarlierWhileMemoryIsShort) {
  Use({.memory_bytes = 100'000, .disk = &disk_});
  ByteLease others(&memory_);
  others.Resize(memory_.limit());
  Block(7, true, 7, {std::string("I") + std::string(20'000, 'x')});
  EXPECT_EQ(open_->memory_bytes(), 0);
  EXPECT_GT(disk_.used(), 20'000);
}

TEST_F(OpenTransactionsTest, AMessageLargerThanABlockIsKeptWhole) {
  Use({.memory_bytes = 100'000, .disk = &disk_});
  const std::string row = "I" + std::string(3'000'000, 'x');
  Block(7, true, 7, {"I1", row, "I2"});
  EXPECT_THAT(Committed(7), ElementsAre("I1", row, "I2"));
}

TEST_F(OpenTransactionsTest, PassingTheSpillLimitIsAnError) {
  ByteBudget little(50'000);
  Use({.memory_bytes = 10'000, .disk = &little});
  ASSERT_TRUE(open_->OpenBlock(7, true).ok());
  Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) {
    status = open_->Add(Streamed(7, "I" + std::string(1000, 'x')), 0);
  }
  EXPECT_EQ(PartsOf(status).code, "ETL-S220");
  open_.reset();  // Before the budget that it leases from.
}

TEST_F(OpenTransactionsTest, AnXidThatBeginsAgainIsAnotherTransaction) {
  Block(7, true, 7, {"I1"});
  Block(7, true, 7, {"I2"});
  EXPECT_THAT(Committed(7), ElementsAre("I2"));
  EXPECT_EQ(memory_.used(), 0);
}

TEST_F(OpenTransactionsTest, RefusesWhatIsOutOfOrder) {
  EXPECT_FALSE(open_->CloseBlock().ok());
  EXPECT_FALSE(open_->OpenBlock(7, false).ok()) << "it has not begun";
  EXPECT_FALSE(open_->Commit(9).ok()) << "nothing was sent of it";
  ASSERT_TRUE(open_->OpenBlock(7, true).ok());
  EXPECT_FALSE(open_->OpenBlock(8, true).ok()) << "blocks do not nest";
  EXPECT_FALSE(open_->Add("Bbegin", 0).ok());
  EXPECT_FALSE(open_->Add("I\0", 0).ok()) << "too short";
  EXPECT_FALSE(open_->Commit(7).ok()) << "its block is open";
  open_->Abort(12, 12);
}

}  // namespace
}  // namespace etl
