// The replication stream: any bytes give a frame and a message or an error, and every view lies
// inside the input.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "decode/pgoutput.h"

namespace {

bool Inside(std::string_view part, std::string_view whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void CheckMessage(std::string_view payload, bool in_stream_block) {
  etl::DecodedMessage message;
  if (!etl::DecodeMessage(payload, in_stream_block, &message).ok()) return;
  for (const etl::Cell& cell : message.cells) ETL_CHECK(Inside(cell.bytes, payload));
  for (const etl::Cell& cell : message.old_cells) ETL_CHECK(Inside(cell.bytes, payload));
  for (const etl::RelationColumn& column : message.columns) {
    ETL_CHECK(Inside(column.name, payload));
  }
  ETL_CHECK(Inside(message.name, payload));
  ETL_CHECK(Inside(message.content, payload));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  CheckMessage(bytes, false);
  CheckMessage(bytes, true);
  const etl::Result<etl::ReplicationFrame> frame = etl::ParseReplicationFrame(bytes);
  if (frame.ok() && !frame->keepalive) {
    ETL_CHECK(Inside(frame->payload, bytes));
    CheckMessage(frame->payload, false);
  }
  return 0;
}
