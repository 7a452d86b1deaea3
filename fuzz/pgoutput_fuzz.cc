// The replication stream: any bytes give a frame and a message or an error, and every view lies
// inside the input.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "decode/pgoutput.h"
#include "seeds.h"

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

const std::vector<std::string>& Seeds() {
  static const std::vector<std::string> seeds = [] {
    std::vector<std::string> made;
    for (const char* hex : {
             "42 000000000348d810 000303ecab34c7cd 000003ab",
             "59 000040ab 7075626c696300 6500",
             "52 000040b4 7075626c696300 6600 66 0002 01 696400 00000017 ffffffff 01 6e00 000006a4 "
             "00060006",
             "49 000040ad 4e 0003 74 00000001 31 74 00000001 61 74 00000001 78",
             "49 000040b4 4e 0002 62 00000004 00000002 62 0000000c 0002000000000002 0001 1388",
             "55 000040ad 4b 0003 74 00000001 31 6e 6e 4e 0003 74 00000001 32 74 00000001 62 75",
             "55 000040b4 4f 0002 74 00000001 31 74 00000004 312e3530 4e 0002 74 00000001 31 6e",
             "44 000040ad 4b 0003 74 00000001 32 6e 6e",
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
             "72 00 000000000348e118 000000000348e150 000303ecab53cfa5 000303ecab53d171 000003af "
             "673200",
             "6b 000000000348c330 000303ecab34f1c0 00",
         }) {
      made.push_back(etl::FromHex(hex));
    }
    return made;
  }();
  return seeds;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
  return etl::MutateFromSeeds(Seeds(), data, size, size_max, seed);
}

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
