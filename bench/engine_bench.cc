// The engine as a contender: one pipeline, in this process, with the settings that the
// configuration would give it.
//
//   engine_bench prepare  url= slot= publication= file= mode=            tables become live
//   engine_bench changes  … destination=null|duckdb target=LSN           from there to the target
//   engine_bench snapshot … destination=null|duckdb parallelism=1        until all tables are live
//   engine_bench latency  … table= seconds=5 rate=10000                  commit received → handed
//   over engine_bench visible  … table= count=200                             commit → stored, idle
//   system engine_bench append   … table= count=200 sink=URL              when commits were
//   received
//
// With sink=URL, changes go to a Snowflake there (snowflake_sink), in append mode.
//
// Prints one JSON line.
#include <algorithm>
#include <atomic>
#include <functional>
#include <optional>
#include <thread>

#include "base/log.h"
#include "bench_tool.h"
#include "control/pipeline_factory.h"
#include "destination/duckdb/duckdb_destination.h"
#include "destination/null/null_destination.h"
#include "destination/snowflake/snowflake_destination.h"
#include "pipeline/pipeline.h"

namespace etl::bench {
namespace {

/// A null destination that begins where another one stands, so that changes of live tables can be
/// measured without a copy of them.
class NullFrom : public NullDestination {
 public:
  explicit NullFrom(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}
  Result<Checkpoint> Start(const StartOptions&) override { return checkpoint_; }

 private:
  Checkpoint checkpoint_;
};

/// A Snowflake destination that tells of each segment when it is handed over.
class ObservedSnowflake : public SnowflakeDestination {
 public:
  ObservedSnowflake(SnowflakeOptions options, std::function<void(const Segment&)> on_segment)
      : SnowflakeDestination(std::move(options), SystemClock()),
        on_segment_(std::move(on_segment)) {}
  Status Accept(Delivery delivery) override {
    if (const auto* segment = std::get_if<Segment>(&delivery); segment != nullptr && on_segment_)
      on_segment_(*segment);
    return SnowflakeDestination::Accept(std::move(delivery));
  }

 private:
  std::function<void(const Segment&)> on_segment_;
};

template <typename T>
T Must(Result<T> result) {
  if (!result.ok()) Die(ErrorLine(result.status()));
  return std::move(result).ValueUnsafe();
}
void Must(const Status& status) {
  if (!status.ok()) Die(ErrorLine(status));
}

void SleepMicros(int64_t micros) { std::this_thread::sleep_for(std::chrono::microseconds(micros)); }

double Quantile(std::vector<double> values, double fraction) {
  if (values.empty()) return -1;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(fraction * static_cast<double>(values.size() - 1))];
}

Config MakeConfig(const Arguments& arguments) {
  Config config;
  config.limits.memory = arguments.Number("memory", int64_t{256} << 20);
  config.sources["source"] = {.name = "source", .url = arguments.Text("url"), .password = {}};
  config.destinations["file"] = {
      .name = "file", .path = arguments.Text("file"), .release = std::nullopt};
  PipelineConfig pipeline;
  pipeline.name = "bench";
  pipeline.source = "source";
  pipeline.destination = "file";
  pipeline.mode =
      arguments.Text("mode") == "append" ? PipelineMode::kAppend : PipelineMode::kMirror;
  pipeline.publication = arguments.Text("publication");
  pipeline.slot = arguments.Text("slot");
  pipeline.snapshot_parallelism = static_cast<int>(arguments.Number("parallelism", 1));
  pipeline.snapshot_enabled = arguments.Text("sink").empty();
  pipeline.snapshot_chunk_rows = arguments.Number("chunk_rows", pipeline.snapshot_chunk_rows);
  pipeline.batch_max_rows = arguments.Number("max_rows", pipeline.batch_max_rows);
  pipeline.batch_max_bytes = arguments.Number("max_bytes", pipeline.batch_max_bytes);
  config.pipelines["bench"] = pipeline;
  return config;
}

/// The engine under measurement.
class Engine {
 public:
  explicit Engine(const Arguments& arguments)
      : config_(MakeConfig(arguments)),
        resources_(config_),
        spec_(Must(MakePipelineSpec(config_, "bench", &resources_))) {}

  PipelineSpec& spec() { return spec_; }

  /// Changes go nowhere from here on; `live` starts from what the file says of its tables.
  void UseNull(bool live, std::function<void(const Segment&)> on_segment) {
    Checkpoint checkpoint;
    if (live) {
      const auto stored = Must(spec_.make_destination());
      checkpoint = Must(stored->Start({.pipeline = "bench", .mode = spec_.reader.mode}));
      Must(stored->Shutdown(SystemClock().Now() + std::chrono::seconds(5)));
    }
    spec_.make_destination = [checkpoint, on_segment]() -> Result<std::unique_ptr<Destination>> {
      auto null = checkpoint.identity ? std::make_unique<NullFrom>(checkpoint)
                                      : std::make_unique<NullDestination>();
      if (on_segment) null->OnSegment(on_segment);
      return null;
    };
  }

  void UseSnowflake(const std::string& url, std::function<void(const Segment&)> on_segment) {
    SnowflakeOptions options;
    options.config.account = "BENCH-BENCH";
    options.config.url = url;
    options.config.user = "BENCH";
    options.config.database = "DB";
    options.config.schema = "S";
    options.config.landing_schema = "ETL";
    const PrivateKeyPtr key = Must(PrivateKey::Generate(2048));
    options.key = [key]() -> Result<KeyOrigin> {
      return KeyOrigin{.read = [key]() -> Result<PrivateKeyPtr> { return key; },
                       .changed = [] { return false; }};
    };
    spec_.make_destination = [options, on_segment]() -> Result<std::unique_ptr<Destination>> {
      return std::make_unique<ObservedSnowflake>(options, on_segment);
    };
  }

  void Start() {
    pipeline_ = Must(Pipeline::Start(spec_, History::kKeep, resources_.budget(), SystemClock()));
    began_ = WallSeconds();
    cpu_began_ = ProcessCpuSeconds() - ThreadCpuSeconds();
  }
  uint64_t durable() const { return pipeline_->board().durable.load(); }
  /// Waits until everything before `target` is stored.
  void WaitForPosition(uint64_t target) {
    while (durable() < target) Pause(1000);
    Measure();
  }
  /// Waits until all tables are live and `target` is stored.
  void WaitUntilLive(Lsn target) {
    pipeline_->Command(SetTarget{target});
    while (!pipeline_->board().reached) Pause(1000);
    Measure();
    for (const TableStatus& table : pipeline_->status()->tables) {
      if (table.phase != TablePhase::kLive) Die(table.name + " is not live: " + table.error);
    }
  }
  void Stop() { Must(pipeline_->Stop(SystemClock().Now() + std::chrono::seconds(30))); }
  Pipeline& pipeline() { return *pipeline_; }
  double seconds() const { return seconds_; }
  /// Of the pipeline's threads, without the one that waits here.
  double cpu() const { return cpu_; }

 private:
  void Pause(int64_t micros) {
    SleepMicros(micros);
    if (pipeline_->ended()) Must(pipeline_->Stop(SystemClock().Now()));
  }
  void Measure() {
    seconds_ = WallSeconds() - began_;
    cpu_ = ProcessCpuSeconds() - ThreadCpuSeconds() - cpu_began_;
  }

  Config config_;
  ProcessResources resources_;
  PipelineSpec spec_;
  std::unique_ptr<Pipeline> pipeline_;
  double began_ = 0;
  double cpu_began_ = 0;
  double seconds_ = 0;
  double cpu_ = 0;
};

Lsn PositionNow(const Arguments& arguments) {
  const ConnectionPtr connection = Connect(arguments.Text("url"), /*replication=*/false);
  const ResultPtr result =
      Execute(connection.get(), "SELECT pg_current_wal_flush_lsn()", PGRES_TUPLES_OK);
  return Lsn{ParseLsn(PQgetvalue(result.get(), 0, 0))};
}

void Print(const Engine& engine, int64_t changes) {
  std::printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"changes\": %ld, \"peak_mib\": %.1f}\n",
              engine.seconds(), engine.cpu(), static_cast<long>(changes), PeakMemoryMiB());
}

int RunPrepare(const Arguments& arguments) {
  Engine engine(arguments);
  if (const std::string sink = arguments.Text("sink"); !sink.empty()) engine.UseSnowflake(sink, {});
  const Lsn target = PositionNow(arguments);
  engine.Start();
  engine.WaitUntilLive(target);
  engine.Stop();
  Print(engine, 0);
  return 0;
}

int RunSnapshot(const Arguments& arguments) {
  Engine engine(arguments);
  if (arguments.Text("destination") == "null") engine.UseNull(/*live=*/false, {});
  const Lsn target = PositionNow(arguments);
  engine.Start();
  engine.WaitUntilLive(target);
  const int64_t changes = engine.pipeline().board().changes;
  engine.Stop();
  Print(engine, changes);
  return 0;
}

int RunChanges(const Arguments& arguments) {
  Engine engine(arguments);
  if (arguments.Text("destination") == "null") engine.UseNull(/*live=*/true, {});
  if (const std::string sink = arguments.Text("sink"); !sink.empty()) engine.UseSnowflake(sink, {});
  const uint64_t target = ParseLsn(arguments.Text("target"));
  engine.Start();
  engine.WaitForPosition(target);
  const int64_t changes = engine.pipeline().board().changes;
  engine.Stop();
  Print(engine, changes);
  return 0;
}

// Commits ten rows a time, so many times a second that the rate is kept, until told to end.
void Generate(const std::string& url, const std::string& table, int64_t rate,
              const std::atomic<bool>& end) {
  constexpr int64_t kRows = 10;
  const ConnectionPtr connection = Connect(url, /*replication=*/false);
  const std::string sql = "INSERT INTO " + table +
                          "(account, amount, note, at) SELECT n, n * 1.25, 'twenty characters ab', "
                          "now() FROM generate_series(1, " +
                          std::to_string(kRows) + ") n";
  const ResultPtr prepared(PQprepare(connection.get(), "rows", sql.c_str(), 0, nullptr));
  // What a busy machine holds up is not made up for: the rate stays steady.
  for (double next = WallSeconds(); !end;
       next += static_cast<double>(kRows) / static_cast<double>(rate)) {
    const double ahead = next - WallSeconds();
    if (ahead > 0) SleepMicros(static_cast<int64_t>(ahead * 1e6));
    if (ahead < -0.02) next -= ahead;
    const ResultPtr result(
        PQexecPrepared(connection.get(), "rows", 0, nullptr, nullptr, nullptr, 0));
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) Die(PQerrorMessage(connection.get()));
  }
}

int RunLatency(const Arguments& arguments) {
  const int64_t rate = arguments.Number("rate", 10000);
  const int64_t seconds = arguments.Number("seconds", 5);
  Engine engine(arguments);
  // Used by the writer's thread until it is joined, then by this one.
  std::vector<double> millis;
  millis.reserve(static_cast<size_t>(rate * seconds));
  std::atomic<bool> measuring{false};
  engine.UseNull(/*live=*/true, [&](const Segment& segment) {
    if (segment.rows == 0 || !measuring) return;
    const Duration took = SystemClock().Now() - segment.received;
    millis.push_back(static_cast<double>(took.count()) / 1e6);
  });
  engine.Start();
  std::atomic<bool> end{false};
  std::thread generator(
      [&] { Generate(arguments.Text("url"), arguments.Text("table"), rate, end); });
  SleepMicros(1'000'000);
  const int64_t changes_before = engine.pipeline().board().changes;
  const double began = WallSeconds();
  measuring = true;
  SleepMicros(seconds * 1'000'000);
  measuring = false;
  const double reached = static_cast<double>(engine.pipeline().board().changes - changes_before) /
                         (WallSeconds() - began);
  end = true;
  generator.join();
  engine.Stop();
  std::printf(
      "{\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, \"segments\": %zu, \"rate\": %.0f, "
      "\"peak_mib\": %.1f}\n",
      Quantile(millis, 0.5), Quantile(millis, 0.99), Quantile(millis, 1), millis.size(), reached,
      PeakMemoryMiB());
  return 0;
}

int RunVisible(const Arguments& arguments) {
  Engine engine(arguments);
  engine.Start();
  const ConnectionPtr connection = Connect(arguments.Text("url"), /*replication=*/false);
  const std::string sql = "INSERT INTO " + arguments.Text("table") +
                          "(account, amount, note, at) VALUES (1, 2.5, 'visible', now())";
  std::vector<double> millis;
  for (int64_t i = 0; i < arguments.Number("count", 100); ++i) {
    SleepMicros(50'000 + (i % 7) * 3'000);
    // Nothing else is written: what is stored beyond this position is the row.
    const ResultPtr result =
        Execute(connection.get(), "SELECT pg_current_wal_insert_lsn()", PGRES_TUPLES_OK);
    const uint64_t position = ParseLsn(PQgetvalue(result.get(), 0, 0));
    const double began = WallSeconds();
    Execute(connection.get(), sql, PGRES_COMMAND_OK);
    while (engine.durable() <= position) {
      if (engine.pipeline().ended()) engine.Stop();
      if (WallSeconds() - began > 10) Die("a commit was not stored within ten seconds");
      SleepMicros(100);
    }
    millis.push_back((WallSeconds() - began) * 1000);
  }
  engine.Stop();
  std::printf("{\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"count\": %zu, \"peak_mib\": %.1f}\n",
              Quantile(millis, 0.5), Quantile(millis, 0.99), millis.size(), PeakMemoryMiB());
  return 0;
}

// One commit at a time into an idle system. The sink knows when the rows of each came.
int RunAppend(const Arguments& arguments) {
  Engine engine(arguments);
  // Used by the writer's thread until it is joined, then by this one.
  std::vector<std::pair<Lsn, Instant>> received;
  engine.UseSnowflake(arguments.Text("sink"), [&](const Segment& segment) {
    for (const SegmentPart& part : segment.parts) {
      if (const auto* batch = std::get_if<ChangeBatch>(&part))
        received.emplace_back(batch->transactions.back().commit, segment.received);
    }
  });
  engine.Start();
  const ConnectionPtr connection = Connect(arguments.Text("url"), /*replication=*/false);
  const std::string sql = "INSERT INTO " + arguments.Text("table") +
                          "(account, amount, note, at) VALUES (1, 2.5, 'append', now())";
  // Below what a channel may take, so that none of them waits for another.
  for (int64_t i = 0; i < arguments.Number("count", 200); ++i) {
    SleepMicros(220'000 + (i % 7) * 3'000);
    Execute(connection.get(), sql, PGRES_COMMAND_OK);
  }
  SleepMicros(500'000);
  engine.Stop();
  std::printf("{\"received\": [");
  for (size_t i = 0; i < received.size(); ++i) {
    const double at = std::chrono::duration<double>(received[i].second.time_since_epoch()).count();
    std::printf("%s[\"%016lx\", %.7f]", i == 0 ? "" : ", ",
                static_cast<unsigned long>(received[i].first.value), at);
  }
  std::printf("], \"peak_mib\": %.1f}\n", PeakMemoryMiB());
  return 0;
}

int Run(const Arguments& arguments) {
  ConfigureLog(LogLevel::kWarn, LogFormat::kText);
  const std::string what = arguments.Word();
  if (what == "prepare") return RunPrepare(arguments);
  if (what == "snapshot") return RunSnapshot(arguments);
  if (what == "changes") return RunChanges(arguments);
  if (what == "latency") return RunLatency(arguments);
  if (what == "visible") return RunVisible(arguments);
  if (what == "append") return RunAppend(arguments);
  Die("engine_bench: prepare, snapshot, changes, latency, visible or append");
}

}  // namespace
}  // namespace etl::bench

int main(int count, char** values) { return etl::bench::Run(etl::bench::Arguments(count, values)); }
