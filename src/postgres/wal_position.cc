#include "postgres/wal_position.h"

namespace etl {
namespace {

constexpr uint64_t kPageSize = 8192;
constexpr uint64_t kShortHeader = 24;
constexpr uint64_t kLongHeader = 40;

}  // namespace

Lsn NormaliseInsertLsn(Lsn insert, uint64_t segment_size) {
  const uint64_t in_page = insert.value % kPageSize;
  const uint64_t page = insert.value - in_page;
  const bool first_of_segment = segment_size != 0 && page % segment_size == 0;
  const uint64_t header = first_of_segment ? kLongHeader : kShortHeader;
  return in_page == header ? Lsn{page} : insert;
}

}  // namespace etl
