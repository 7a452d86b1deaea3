#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "postgres/system_catalog.h"

namespace etl {

struct SystemCatalogOptions {
  std::string publication;
  std::string slot;  ///< for PositionsAnswer::retained_bytes; may be empty
};

/// The system catalog asked over a connection of its own (libpq), one question at a time.
class LibpqSystemCatalog : public SystemCatalog {
 public:
  /// The connection is made in the background; the first Poll tells if it cannot be.
  static Result<std::unique_ptr<LibpqSystemCatalog>> Make(const SourceOptions& source,
                                                          SystemCatalogOptions options);

  void Ask(CatalogQuery query) override;
  Result<std::optional<CatalogAnswer>> Poll(Instant now) override;
  void AddPollFds(std::vector<pollfd>& fds) override;

 private:
  explicit LibpqSystemCatalog(SystemCatalogOptions options) : options_(std::move(options)) {}
  std::string SqlOf(const CatalogQuery& query) const;
  Result<CatalogAnswer> AnswerOf(const CatalogQuery& query,
                                 const std::vector<PgResult>& results) const;

  SystemCatalogOptions options_;
  std::unique_ptr<PgConnection> connection_;
  bool connected_ = false;
  bool sent_ = false;  ///< the first of `queue_` was sent
  std::deque<CatalogQuery> queue_;
  std::vector<PgResult> results_;
};

/// The ranges of a copy: about `chunk_rows` rows each, the last of a leaf open-ended (C3).
struct LeafSize {
  TableId id;
  std::string schema;
  std::string name;
  uint32_t file_node = 0;
  int64_t blocks = 0;
  double rows_per_block = 1;
  int64_t bytes = 0;   ///< with values kept apart (TOAST)
  bool ranges = true;  ///< TID ranges may be used
};
/// Of a partitioned table whose leaves the role may not read: ranges over the root, each of which
/// reads the same blocks of every leaf. `root` says what the chunks are to name.
std::vector<Chunk> PlanRootChunks(const LeafSize& root, const std::vector<LeafSize>& leaves,
                                  int64_t chunk_rows, int64_t chunk_bytes);
std::vector<Chunk> PlanChunks(const std::vector<LeafSize>& leaves, int64_t chunk_rows,
                              int64_t chunk_bytes = ChunkPlanQuery{}.chunk_bytes);

}  // namespace etl
