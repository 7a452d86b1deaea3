#include "batch/spill_file.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <arrow/util/crc32.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace etl {
namespace {

// What stands before each block. In the machine's own byte order: the file never leaves the
// process.
struct BlockHeader {
  uint64_t size = 0;
  uint32_t number = 0;
  uint32_t checksum = 0;
};

// The number is part of it: a block in another one's place does not pass.
uint32_t Checksum(uint32_t number, std::string_view block) {
  return arrow::internal::crc32(number, block.data(), block.size());
}

Status DiskError(const std::string& folder, std::string_view what, int error) {
  ErrorParts parts;
  parts.code = "ETL-R102";
  parts.what = fmt::format("limits.spill_dir {}: a large transaction cannot be {}", folder, what);
  parts.why = std::strerror(error);
  parts.safe = "the transaction is sent again from the start";
  parts.remedy = "give the disk more room, or let limits.spill_dir name another one";
  return MakeError(ErrorKind::kTransient, std::move(parts));
}

Status FolderError(const std::string& folder, int error) {
  switch (error) {
    case EACCES:
    case ENOENT:
    case ENOTDIR:
    case EROFS:
    case EPERM: break;
    default: return DiskError(folder, "set aside", error);
  }
  ErrorParts parts;
  parts.code = "ETL-C140";
  parts.what = fmt::format("limits.spill_dir {} cannot be written to", folder);
  parts.why = std::strerror(error);
  parts.remedy = "let limits.spill_dir name a folder that may be written to";
  return MakeError(ErrorKind::kConfig, std::move(parts));
}

Status LimitError(const std::string& folder, const ByteBudget& disk) {
  ErrorParts parts;
  parts.code = "ETL-S220";
  parts.what = fmt::format(
      "transactions that are open at the source need more than the {} MiB that limits.spill allows",
      disk.limit() >> 20);
  parts.why = fmt::format("they are kept in {} until they end", folder);
  parts.safe = "nothing is lost: they are sent again from the start";
  parts.remedy = "raise limits.spill, or let limits.spill_dir name a larger disk and raise it then";
  return MakeError(ErrorKind::kData, std::move(parts));
}

// A file without a name. Some file systems cannot make one: there its name is taken away at once,
// before a byte is in it.
int OpenNameless(const std::string& folder) {
  const int fd = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  std::string path = folder + "/etl-stream-spill-XXXXXX";
  const int named = mkostemp(path.data(), O_CLOEXEC);
  if (named >= 0) unlink(path.c_str());
  return named;
}

}  // namespace

Result<std::unique_ptr<SpillFile>> SpillFile::Make(const std::string& folder, ByteBudget* disk) {
  const int fd = OpenNameless(folder);
  if (fd < 0) return FolderError(folder, errno);
  return std::unique_ptr<SpillFile>(new SpillFile(fd, folder, disk));
}

SpillFile::SpillFile(int fd, std::string folder, ByteBudget* disk)
    : fd_(fd), folder_(std::move(folder)), disk_(disk), lease_(disk) {}

SpillFile::~SpillFile() { close(fd_); }

Status SpillFile::Append(std::string_view block) {
  const BlockHeader header{
      .size = block.size(), .number = written_, .checksum = Checksum(written_, block)};
  const int64_t size = static_cast<int64_t>(sizeof header + block.size());
  if (disk_ != nullptr && disk_->WouldExceed(size)) return LimitError(folder_, *disk_);
  const auto write_all = [&](const char* from, size_t left, int64_t offset) {
    while (left > 0) {
      const ssize_t put = pwrite(fd_, from, left, offset);
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return DiskError(folder_, "set aside", put == 0 ? ENOSPC : errno);
      from += put;
      left -= static_cast<size_t>(put);
      offset += put;
    }
    return Status::OK();
  };
  ETL_RETURN_IF_ERROR(write_all(reinterpret_cast<const char*>(&header), sizeof header, end_));
  ETL_RETURN_IF_ERROR(
      write_all(block.data(), block.size(), end_ + static_cast<int64_t>(sizeof header)));
  end_ += size;
  ++written_;
  lease_.Resize(end_);
  return Status::OK();
}

Status SpillFile::ReadAll(char* to, int64_t size, int64_t offset) const {
  while (size > 0) {
    const ssize_t got = pread(fd_, to, static_cast<size_t>(size), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return DiskError(folder_, "read back", got == 0 ? EIO : errno);
    to += got;
    size -= got;
    offset += got;
  }
  return Status::OK();
}

Result<bool> SpillFile::Next(std::string* block) {
  if (read_ == written_) return false;
  BlockHeader header;
  ETL_RETURN_IF_ERROR(ReadAll(reinterpret_cast<char*>(&header), sizeof header, at_));
  at_ += static_cast<int64_t>(sizeof header);
  if (header.number != read_ || header.size > static_cast<uint64_t>(end_ - at_)) {
    return DiskError(folder_, "read back as it was written", EIO);
  }
  block->resize(header.size);
  ETL_RETURN_IF_ERROR(ReadAll(block->data(), static_cast<int64_t>(header.size), at_));
  if (Checksum(read_, *block) != header.checksum) {
    return DiskError(folder_, "read back as it was written", EIO);
  }
  at_ += static_cast<int64_t>(header.size);
  ++read_;
  return true;
}

}  // namespace etl
