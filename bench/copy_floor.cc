// The floor for the snapshot: COPY of a table to nowhere, one stream.
//
//   copy_floor url=URL table=NAME
//
// Prints one JSON line: seconds, CPU seconds of this process, rows and bytes.
#include "bench_tool.h"

namespace etl::bench {
namespace {

int Run(const Arguments& arguments) {
  const ConnectionPtr connection = Connect(arguments.Text("url"), /*replication=*/false);
  PGconn* handle = connection.get();
  const double began = WallSeconds();
  const double cpu_began = ProcessCpuSeconds();
  Execute(handle,
          "COPY (SELECT * FROM ONLY " + arguments.Text("table") + ") TO STDOUT (FORMAT binary)",
          PGRES_COPY_OUT);
  int64_t bytes = 0;
  int64_t rows = 0;
  char* row = nullptr;
  int size = 0;
  while ((size = PQgetCopyData(handle, &row, /*async=*/0)) > 0) {
    bytes += size;
    ++rows;
    PQfreemem(row);
  }
  if (size < -1) Die(PQerrorMessage(handle));
  std::printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"rows\": %ld, \"bytes\": %ld}\n",
              WallSeconds() - began, ProcessCpuSeconds() - cpu_began, static_cast<long>(rows),
              static_cast<long>(bytes));
  return 0;
}

}  // namespace
}  // namespace etl::bench

int main(int count, char** values) { return etl::bench::Run(etl::bench::Arguments(count, values)); }
