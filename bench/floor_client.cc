// The floor for changes: receives a slot's stream and throws it away, as cheaply as a client can.
//
//   floor_client url=URL slot=NAME publication=NAME target=LSN [binary=1]
//
// Wakes once for 128 KiB or every millisecond. Prints one JSON line: seconds from START_REPLICATION
// until the target was seen, CPU seconds of this process in that time, bytes and messages.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "bench_tool.h"

namespace etl::bench {
namespace {

constexpr int kGatherBytes = 128 * 1024;

uint64_t BigEndian64(const char* bytes) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

int Run(const Arguments& arguments) {
  const ConnectionPtr connection = Connect(arguments.Text("url"), /*replication=*/true);
  PGconn* handle = connection.get();
  const uint64_t target = ParseLsn(arguments.Text("target"));
  const std::string command = "START_REPLICATION SLOT \"" + arguments.Text("slot") +
                              "\" LOGICAL 0/0 (proto_version '2', publication_names '" +
                              arguments.Text("publication") + "', messages 'true'" +
                              (arguments.Number("binary", 1) != 0 ? ", binary 'true')" : ")");
  // A Unix socket ignores this, and is then emptied every millisecond.
  setsockopt(PQsocket(handle), SOL_SOCKET, SO_RCVLOWAT, &kGatherBytes, sizeof kGatherBytes);

  const double began = WallSeconds();
  const double cpu_began = ProcessCpuSeconds();
  Execute(handle, command, PGRES_COPY_BOTH);
  int64_t bytes = 0;
  int64_t messages = 0;
  for (bool done = false; !done;) {
    char* frame = nullptr;
    const int size = PQgetCopyData(handle, &frame, /*async=*/1);
    if (size > 0) {
      bytes += size;
      ++messages;
      // A Commit: flags, commit position, end position. A keepalive: the sender's position.
      if (frame[0] == 'w' && size >= 42 && frame[25] == 'C') {
        done = BigEndian64(frame + 35) >= target;
      } else if (frame[0] == 'k') {
        done = BigEndian64(frame + 1) >= target;
      }
      PQfreemem(frame);
      continue;
    }
    if (size < 0) Die(std::string("the stream ended: ") + PQerrorMessage(handle));
    pollfd fd{.fd = PQsocket(handle), .events = POLLIN, .revents = 0};
    poll(&fd, 1, 1);
    if (PQconsumeInput(handle) != 1) Die(PQerrorMessage(handle));
  }
  std::printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"bytes\": %ld, \"messages\": %ld}\n",
              WallSeconds() - began, ProcessCpuSeconds() - cpu_began, static_cast<long>(bytes),
              static_cast<long>(messages));
  return 0;
}

}  // namespace
}  // namespace etl::bench

int main(int count, char** values) { return etl::bench::Run(etl::bench::Arguments(count, values)); }
