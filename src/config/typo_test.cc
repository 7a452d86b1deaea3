#include <gtest/gtest.h>

#include "config/nearest.h"

namespace etl {
namespace {

const std::vector<std::string>& Keys() {
  static const std::vector<std::string> keys = {"source",
                                                "destination",
                                                "mode",
                                                "tables",
                                                "publication",
                                                "slot",
                                                "snapshot",
                                                "batch",
                                                "retry",
                                                "wal_budget",
                                                "columns",
                                                "hash_key",
                                                "on_unrepresentable",
                                                "enabled"};
  return keys;
}

struct Typo {
  const char* typed;
  const char* meant;
};

// What fingers do: a letter lost, doubled, swapped, replaced, a plural, a dash, capitals.
constexpr Typo kTypos[] = {
    {"sorce", "source"},
    {"souce", "source"},
    {"soruce", "source"},
    {"sources", "source"},
    {"Source", "source"},
    {"destnation", "destination"},
    {"destinaton", "destination"},
    {"destinations", "destination"},
    {"dest1nation", "destination"},
    {"destiantion", "destination"},
    {"mod", "mode"},
    {"moed", "mode"},
    {"modes", "mode"},
    {"mdoe", "mode"},
    {"table", "tables"},
    {"tabels", "tables"},
    {"talbes", "tables"},
    {"tabless", "tables"},
    {"publicaton", "publication"},
    {"publiction", "publication"},
    {"pubilcation", "publication"},
    {"publications", "publication"},
    {"slots", "slot"},
    {"solt", "slot"},
    {"slto", "slot"},
    {"snapshoot", "snapshot"},
    {"snaphot", "snapshot"},
    {"snapshots", "snapshot"},
    {"snpashot", "snapshot"},
    {"bacth", "batch"},
    {"batc", "batch"},
    {"btach", "batch"},
    {"batches", "batch"},
    {"retyr", "retry"},
    {"rety", "retry"},
    {"retrys", "retry"},
    {"wal-budget", "wal_budget"},
    {"walbudget", "wal_budget"},
    {"wal_buget", "wal_budget"},
    {"colums", "columns"},
    {"column", "columns"},
    {"colunms", "columns"},
    {"hashkey", "hash_key"},
    {"hash-key", "hash_key"},
    {"has_key", "hash_key"},
    {"hash_kye", "hash_key"},
    {"on_unrepresentible", "on_unrepresentable"},
    {"on_unrepresentable_", "on_unrepresentable"},
    {"on-unrepresentable", "on_unrepresentable"},
    {"unrepresentable", "on_unrepresentable"},
    {"enable", "enabled"},
    {"enabeld", "enabled"},
    {"Enabled", "enabled"},
    {"enablde", "enabled"},
    {"nabled", "enabled"},
};

TEST(Nearest, GuessesWhatWasMeant) {
  for (const Typo& typo : kTypos)
    EXPECT_EQ(NearestName(typo.typed, Keys()), typo.meant) << typo.typed;
}

TEST(Nearest, EveryOneLetterSlipOfEveryKeyIsRecognised) {
  int tried = 0;
  int right = 0;
  for (const std::string& key : Keys()) {
    for (size_t i = 0; i < key.size(); ++i) {
      std::string lost = key;
      lost.erase(i, 1);
      std::string replaced = key;
      replaced[i] = 'q';
      std::string added = key;
      added.insert(i, "x");
      for (const std::string& word : {lost, replaced, added}) {
        ++tried;
        right += NearestName(word, Keys()) == key ? 1 : 0;
      }
    }
  }
  EXPECT_GT(tried, 200);
  EXPECT_GE(right * 100, tried * 95);
}

TEST(Nearest, SaysNothingWhereNothingIsNear) {
  for (const char* word : {"", "x", "zzzzzz", "kafka", "compression"})
    EXPECT_EQ(NearestName(word, Keys()), std::nullopt) << word;
}

TEST(Nearest, DistanceCountsASwapAsOneEdit) {
  EXPECT_EQ(EditDistance("batch", "bacth"), 1);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
}

}  // namespace
}  // namespace etl
