#include "sim/simulation.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

#include "base/check.h"

namespace etl {
namespace {

constexpr size_t kCopiers = 2;
constexpr size_t kActors = 3 + kCopiers;  // world, reader, writer, copiers
constexpr uint64_t kMaxRounds = 400'000;
constexpr uint64_t kMaxRoundsAtOneMoment = 20'000;
constexpr Duration kCalmLimit = std::chrono::minutes(10);

// The longest that the server may wait for a status: twice the interval, for a Step may be late.
constexpr Duration kSilenceLimit = std::chrono::seconds(20);

WorkloadOptions DrawWorkload(Random& random, bool savepoints) {
  WorkloadOptions options;
  options.ddl = !random.OneIn(3);
  options.visibility_lag = !random.OneIn(3);
  options.asynchronous_commit = !random.OneIn(3);
  options.publication_changes = random.OneIn(2);
  options.keys = 3 + random.Below(10);
  options.savepoints = savepoints;
  if (random.OneIn(2)) options.take_over_one_in = 2 + random.Below(5);
  return options;
}

std::vector<Row> Sorted(std::vector<Row> rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

std::string Difference(std::vector<Row> expected, std::vector<Row> actual) {
  expected = Sorted(std::move(expected));
  actual = Sorted(std::move(actual));
  if (expected == actual) return {};
  std::vector<Row> lost;
  std::vector<Row> extra;
  std::set_difference(expected.begin(), expected.end(), actual.begin(), actual.end(),
                      std::back_inserter(lost));
  std::set_difference(actual.begin(), actual.end(), expected.begin(), expected.end(),
                      std::back_inserter(extra));
  std::string text;
  for (const Row& row : lost) text += "\n  missing: " + DescribeRow(row);
  for (const Row& row : extra) text += "\n  extra:   " + DescribeRow(row);
  return text;
}

// Whether the destination's columns are those of the source's state.
bool SameColumns(const TableSchema& schema, const ModelTableState& state) {
  return schema.name == state.name && schema.schema == state.schema &&
         std::equal(schema.columns.begin(), schema.columns.end(), state.columns.begin(),
                    state.columns.end(), [](const Column& a, const ModelColumn& b) {
                      return a.attnum == b.attnum && a.name == b.name &&
                             a.type->oid == b.type_oid && a.type->typmod == b.typmod;
                    });
}

}  // namespace

struct Simulation::Life {
  Life(Simulation* sim, const Checkpoint& checkpoint, std::unique_ptr<ModelDestination> made,
       const ReaderOptions& options)
      : batch(options.batch),
        destination(std::move(made)),
        stream(&sim->source_, checkpoint.position),
        catalog(&sim->source_),
        budget(1 << 20) {
    ReaderChannels channels;
    channels.deliveries = &deliveries;
    channels.replies = &replies;
    channels.commands = &commands;
    for (size_t i = 0; i < kCopiers; ++i) {
      copiers.push_back(std::make_unique<CopierParts>(sim, &batch));
      channels.copiers.push_back({.tasks = &copiers[i]->tasks, .events = &copiers[i]->events});
    }
    reader = std::make_unique<Reader>(options, checkpoint, &stream, &catalog, std::move(channels),
                                      &budget, &board, sim->clock_);
    writer =
        std::make_unique<Writer>(destination.get(), &deliveries, &replies, nullptr, sim->clock_);
  }

  struct CopierParts {
    CopierParts(Simulation* sim, const BatchOptions* options)
        : reader(&sim->source_),
          copier(&reader, options, static_cast<int64_t>(1 + sim->random_.Below(400)), &tasks,
                 &events) {}
    TaskChannel tasks{1};
    CopierChannel events{2};
    ModelChunkReader reader;
    Copier copier;
  };

  BatchOptions batch;
  std::unique_ptr<ModelDestination> destination;
  ModelWalStream stream;
  ModelCatalog catalog;
  ByteBudget budget;
  ReaderBoard board;
  DeliveryChannel deliveries{4};
  ReplyChannel replies{4};
  CommandChannel commands{8};
  std::vector<std::unique_ptr<CopierParts>> copiers;
  std::unique_ptr<Reader> reader;
  std::unique_ptr<Writer> writer;
};

Simulation::Simulation(const SimulationOptions& options)
    : options_(options),
      random_(options.seed * 0x9e3779b97f4a7c15u + 1),
      stream_random_(options.seed * 0x9e3779b97f4a7c15u + 2),
      postgres_(random_.Next(), DrawWorkload(random_, options.streaming)),
      by_(kActors, kNever) {
  if (options_.trace) {
    postgres_.trace = store_.trace = source_.trace = [this](const std::string& text) { Say(text); };
  }
  store_.on_commit = [this](const DestinationState& state) { CheckCommit(state); };
  store_.may_diverge = [this](uint32_t oid, Lsn from, Lsn before) {
    for (const TxnPtr& txn : postgres_.committed()) {
      if (txn->commit_lsn >= from && txn->commit_lsn <= before &&
          txn->silently_changed.contains(oid))
        return true;
    }
    return false;
  };
  source_.postgres = &postgres_;
  source_.clock = &clock_;
  source_.random = &random_;
  source_.stream_random = &stream_random_;
  if (options_.streaming && !stream_random_.OneIn(4))
    source_.stream_one_in = 1 + stream_random_.Below(6);
  source_.loses_published_changes = options_.loses_published_changes;
  source_.hide_subtransaction_aborts = options_.mutant == Mutant::kHideSubtransactionAborts;
  source_.failure_one_in = random_.OneIn(2) ? 0 : 500 + random_.Below(3000);
  source_.slow_copies = random_.OneIn(2);
  source_.spontaneous_keepalives = !random_.OneIn(3);
  source_.on_status = [this](Lsn received, Lsn flushed) {
    const Lsn durable = store_.durable.checkpoint.position;
    if (flushed > durable)
      Fail(fmt::format("reported {} as flushed, stored is {}", FormatLsn(flushed),
                       FormatLsn(durable)));
    if (flushed < last_reported_ || received < last_received_ || flushed > received)
      Fail("reported positions go back");
    last_status_ = clock_.Now();
    last_reported_ = flushed;
    last_received_ = received;
  };
  actions_left_ = 40 + random_.Below(160);
  crash_one_in_ = random_.OneIn(3) ? 0 : 300 + random_.Below(8000);
  use_target_ = random_.OneIn(2);
  next_action_ = clock_.Now();
}

void Simulation::Say(const std::string& text) {
  if (options_.trace) {
    options_.trace(fmt::format(
        "{:10.3f} {}",
        std::chrono::duration<double>(clock_.Now().time_since_epoch()).count() - 1000, text));
  }
}

void Simulation::Fail(std::string text) {
  if (failure_.empty()) failure_ = std::move(text);
  Say("FAIL " + failure_);
}

Status Simulation::Begin() {
  ++result_.lives;
  last_reported_ = Lsn{};
  last_received_ = Lsn{};
  hold_ = Lsn{};
  target_set_ = false;
  auto destination =
      std::make_unique<ModelDestination>(&store_, &random_, &disturb_, options_.mutant);
  ETL_ASSIGN_OR_RETURN(Checkpoint checkpoint, destination->Start({.pipeline = "sim"}));
  if (!checkpoint.identity) {
    NewHistory history;
    history.identity = {.system_id = 1, .database_oid = 2, .slot = "sim"};
    history.position = postgres_.confirmed;
    ETL_RETURN_IF_ERROR(destination->BeginHistory(history));
    ETL_ASSIGN_OR_RETURN(checkpoint, destination->Start({.pipeline = "sim"}));
  }
  if (postgres_.confirmed > checkpoint.position)
    Fail(fmt::format("the slot is confirmed up to {}, stored is {}", FormatLsn(postgres_.confirmed),
                     FormatLsn(checkpoint.position)));
  // A restart of the server may have forgotten acknowledgements.
  if (random_.OneIn(3)) postgres_.confirmed = std::min(postgres_.confirmed, postgres_.persisted);
  Say(fmt::format("life {} begins at {}", result_.lives, FormatLsn(checkpoint.position)));
  ReaderOptions options;
  options.pipeline = "sim";
  options.max_rows = static_cast<int64_t>(1 + random_.Below(20));
  options.chunk_rows = 4;
  options.loses_published_changes =
      options_.loses_published_changes && options_.mutant != Mutant::kKeepForgetfulStream;
  options.selected = [](const std::string&, const std::string&) { return true; };
  // Often so little that transactions go to disk.
  options.open_transactions = {.memory_bytes = stream_random_.OneIn(2) ? 1 : 1 << 20,
                               .spill_dir = "/tmp"};
  last_status_ = clock_.Now();
  life_ = std::make_unique<Life>(this, checkpoint, std::move(destination), options);
  std::fill(by_.begin(), by_.end(), clock_.Now());
  return Status::OK();
}

void Simulation::Crash(const std::string& why) {
  Say("crash: " + why);
  life_.reset();
}

bool Simulation::StepActor(size_t actor) {
  const Instant now = clock_.Now();
  if (actor == 0) {
    by_[0] = next_action_;
    if (actions_left_ == 0 || now < next_action_) {
      if (actions_left_ == 0) by_[0] = kNever;
      return false;
    }
    --actions_left_;
    postgres_.Act();
    if (random_.OneIn(3)) Control();
    const uint64_t dice = random_.Below(20);
    next_action_ = now + (dice < 10   ? Duration(0)
                          : dice < 15 ? std::chrono::milliseconds(random_.Below(20))
                          : dice < 19 ? std::chrono::milliseconds(random_.Below(800))
                                      : std::chrono::milliseconds(random_.Below(20000)));
    by_[0] = next_action_;
    return true;
  }
  Stage* stage = actor == 1   ? static_cast<Stage*>(life_->reader.get())
                 : actor == 2 ? static_cast<Stage*>(life_->writer.get())
                              : static_cast<Stage*>(&life_->copiers[actor - 3]->copier);
  Result<Wake> wake = stage->Step(now);
  if (!wake.ok()) {
    if (KindOf(wake.status()) != ErrorKind::kTransient)
      Fail("a stage ended: " + ErrorLine(wake.status()));
    Crash(ErrorLine(wake.status()));
    return true;
  }
  if (!wake->worked && wake->by <= now)
    Fail(fmt::format("stage {} did nothing and asks to be called at once", actor));
  by_[actor] = wake->by;
  Hash(actor * 2 + (wake->worked ? 1 : 0));
  return wake->worked;
}

// Steps some stages in random order. True if nothing at all is to be done.
bool Simulation::Round() {
  const bool whole = random_.OneIn(2);
  bool worked = false;
  std::vector<size_t> order(kActors);
  for (size_t i = 0; i < kActors; ++i) order[i] = i;
  for (size_t i = kActors; i > 1; --i) std::swap(order[i - 1], order[random_.Below(i)]);
  for (size_t actor : order) {
    if (!whole && random_.OneIn(2)) continue;
    if (StepActor(actor)) worked = true;
    if (life_ == nullptr || !failure_.empty()) return false;
  }
  return whole && !worked;
}

// Moves the clock to the next moment at which a stage wants to be called or the world has
// something.
void Simulation::Wait() {
  Instant next = *std::min_element(by_.begin(), by_.end());
  // What is at hand already and not taken waits for something else.
  const auto event = [&](Instant at) {
    if (at > clock_.Now()) next = std::min(next, at);
  };
  event(life_->stream.NextEvent());
  event(life_->catalog.NextEvent());
  event(life_->destination->NextEvent());
  for (const auto& parts : life_->copiers) event(parts->reader.NextEvent());
  // Waiting clients end at last, and the server writes its WAL out.
  if (random_.OneIn(50)) postgres_.Flush();
  if (next == kNever) return Fail("everybody waits for ever");
  // Whatever holds the stream up, the server hears from us.
  if (clock_.Now() - last_status_ > kSilenceLimit) Fail("the server got no status for long");
  clock_.Set(std::max(next, clock_.Now() + Duration(1)));
}

// What a person or another process may ask for at any time.
void Simulation::Control() {
  if (life_ == nullptr) return;
  if (hold_.valid()) {
    if (life_->board.held_at.load() == hold_.value) {
      // The live tables show exactly what is below the position asked for.
      for (const auto& [oid, table] : store_.durable.tables) CheckTable(table, hold_);
    }
    if (random_.OneIn(2)) {
      ReaderCommand release = Release{};
      if (life_->commands.TryPush(release)) hold_ = Lsn{};
    }
    return;
  }
  if (random_.OneIn(30)) {
    Say("control: hold");
    hold_ = postgres_.insert();
    ReaderCommand hold = HoldAt{hold_};
    if (!life_->commands.TryPush(hold)) hold_ = Lsn{};
  } else if (random_.OneIn(30)) {
    const uint32_t oid = postgres_.oids()[random_.Below(postgres_.oids().size())];
    const ModelTableStatePtr state = postgres_.VisibleState(oid);
    if (state == nullptr) return;
    Say(fmt::format("control: resync {}", oid));
    ReaderCommand resync = Resync{.table = state->schema + "." + state->name};
    (void)life_->commands.TryPush(resync);
  }
}

void Simulation::CheckCommit(const DestinationState& state) {
  Hash(state.checkpoint.position.value);
  Hash(static_cast<uint64_t>(clock_.Now().time_since_epoch().count()));
  if (!store_.violations.empty()) return Fail(store_.violations.front());
  for (const auto& [oid, table] : state.tables) CheckTable(table, state.checkpoint.position);
}

// A live table shows exactly what the source's transactions below the stored position made of it,
// unless rows changed there without messages: that is found only later (section 7).
void Simulation::CheckTable(const DestinationTable& table, Lsn position) {
  if (table.checkpoint.phase != TablePhase::kLive) return;
  const uint32_t oid = table.checkpoint.schema->id.oid;
  const std::vector<TxnPtr>& all = postgres_.committed();
  const Txn::Outcome* outcome = nullptr;
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    const Txn& txn = **it;
    if (txn.commit_lsn >= position) continue;
    const auto found = txn.outcomes.find(oid);
    if (found == txn.outcomes.end()) continue;
    if (txn.silently_changed.contains(oid) && txn.commit_lsn >= table.checkpoint.from) return;
    if (outcome == nullptr) outcome = &found->second;
    if (txn.commit_lsn < table.checkpoint.from) break;
  }
  if (outcome == nullptr || outcome->state == nullptr || !outcome->state->published()) return;
  if (!SameColumns(*table.checkpoint.schema, *outcome->state)) return;
  const std::string difference = Difference(outcome->rows, table.target);
  if (!difference.empty())
    Fail(fmt::format("{} (oid {}) is wrong at {}:{}", table.target_name, oid, FormatLsn(position),
                     difference));
}

std::string Simulation::CompareAtEnd() const {
  std::string text;
  for (uint32_t oid : postgres_.oids()) {
    const ModelTableStatePtr state = postgres_.VisibleState(oid);
    if (state == nullptr || !state->published()) continue;
    const std::string name = fmt::format("\n{}.{} (oid {})", state->schema, state->name, oid);
    const auto found = store_.durable.tables.find(oid);
    if (found == store_.durable.tables.end()) {
      text += name + " was never copied";
      continue;
    }
    const DestinationTable& table = found->second;
    if (table.checkpoint.phase != TablePhase::kLive) {
      text += fmt::format("{} is {}: {}", name, TablePhaseName(table.checkpoint.phase),
                          table.checkpoint.stop_reason);
      continue;
    }
    if (!SameColumns(*table.checkpoint.schema, *state)) text += name + " has other columns";
    if (table.target_name != state->schema + "." + state->name)
      text += name + " is called " + table.target_name;
    std::vector<Row> expected;
    for (auto& [block, row] :
         postgres_.Rows(oid, *state, [&](uint32_t xid) { return postgres_.Visible(xid); }))
      expected.push_back(std::move(row));
    const std::string difference = Difference(std::move(expected), table.target);
    if (!difference.empty()) text += name + " differs:" + difference;
  }
  return text;
}

// Whether the run has come to its end, well or not.
bool Simulation::Finished() {
  if (actions_left_ > 0) return false;
  if (calm_since_ == kNever) {
    Say("calm");
    postgres_.Calm();
    calm_since_ = clock_.Now();
    disturb_ = source_.disturb = false;
    crash_one_in_ = 0;
    hold_ = Lsn{};
    ReaderCommand release = Release{};
    if (life_ != nullptr && !life_->commands.TryPush(release)) Crash("no room for a command");
  }
  if (life_ == nullptr) return false;
  if (use_target_ && !target_set_) {
    ReaderCommand target = SetTarget{postgres_.insert()};
    target_set_ = life_->commands.TryPush(target);
  }
  if (use_target_) {
    if (life_->board.reached.load()) {
      const std::string difference = CompareAtEnd();
      if (!difference.empty()) Fail("the target is reached, but:" + difference);
      return true;
    }
  } else if (store_.durable.checkpoint.position >= postgres_.insert() && CompareAtEnd().empty()) {
    return true;
  }
  if (clock_.Now() - calm_since_ > kCalmLimit) {
    Fail(fmt::format("not done {} minutes after the workload ended: stored {} of {}{}",
                     std::chrono::duration_cast<std::chrono::minutes>(kCalmLimit).count(),
                     FormatLsn(store_.durable.checkpoint.position), FormatLsn(postgres_.insert()),
                     CompareAtEnd()));
  }
  return false;
}

SimulationResult Simulation::Run() {
  uint64_t at_one_moment = 0;
  Instant moment = clock_.Now();
  while (failure_.empty() && !Finished()) {
    if (life_ == nullptr) {
      const Status begun = Begin();
      if (!begun.ok()) Fail(ErrorLine(begun));
      continue;
    }
    if (crash_one_in_ != 0 && random_.OneIn(crash_one_in_)) {
      Crash("killed");
      continue;
    }
    if (Round()) Wait();
    ++result_.rounds;
    at_one_moment = clock_.Now() == moment ? at_one_moment + 1 : 0;
    moment = clock_.Now();
    if (at_one_moment > kMaxRoundsAtOneMoment) Fail("the stages work without end at one moment");
    if (result_.rounds > kMaxRounds) {
      Fail("too many rounds");
      for (size_t i = 0; life_ != nullptr && i < kActors; ++i)
        Say(fmt::format("stage {} waits for {} ns", i, (by_[i] - clock_.Now()).count()));
    }
  }
  life_.reset();
  result_.failure = failure_;
  result_.trace_hash = hash_;
  result_.commits = store_.commits;
  result_.transactions = postgres_.committed().size();
  return result_;
}

SimulationResult RunSeed(uint64_t seed, bool trace, Mutant mutant, bool streaming,
                         bool loses_published_changes) {
  SimulationOptions options;
  options.seed = seed;
  options.mutant = mutant;
  options.streaming = streaming;
  options.loses_published_changes = loses_published_changes;
  if (trace) {
    options.trace = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  }
  return Simulation(options).Run();
}

}  // namespace etl
