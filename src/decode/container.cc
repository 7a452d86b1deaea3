#include "decode/container.h"

#include <charconv>
#include <limits>

namespace etl {
namespace {

// A length and its bytes; -1 is NULL.
bool ReadSized(ByteReader& in, ContainerItem* item) {
  const int32_t size = in.I32();
  item->null = size == -1;
  item->bytes = {};
  if (size < -1) in.Fail();
  if (size > 0) item->bytes = in.Bytes(static_cast<size_t>(size));
  return !in.failed();
}

}  // namespace

ArrayTextReader::ArrayTextReader(std::string_view text, char delimiter, std::string* scratch)
    : at_(text.data()), end_(at_ + text.size()), delimiter_(delimiter), scratch_(scratch) {
  if (at_ != end_ && *at_ == '[') ReadBounds();
}

bool ArrayTextReader::Fail() {
  result_ = CellResult::kMalformed;
  done_ = true;
  return false;
}

// `[-1:0][2:3]=`, printed where a lower bound is not 1.
void ArrayTextReader::ReadBounds() {
  while (at_ != end_ && *at_ == '[') {
    if (bounds_.dimensions == kDimensionsMax) return void(Fail());
    int32_t lower = 0;
    int32_t upper = 0;
    const auto [colon, lower_error] = std::from_chars(at_ + 1, end_, lower);
    if (lower_error != std::errc() || colon == end_ || *colon != ':') return void(Fail());
    const auto [bracket, upper_error] = std::from_chars(colon + 1, end_, upper);
    if (upper_error != std::errc() || bracket == end_ || *bracket != ']' || upper < lower)
      return void(Fail());
    const int64_t size = int64_t{upper} - lower + 1;
    if (size > std::numeric_limits<int32_t>::max()) return void(Fail());
    bounds_.sizes[static_cast<size_t>(bounds_.dimensions++)] = static_cast<int32_t>(size);
    shape_.lower_bounds_one = shape_.lower_bounds_one && lower == 1;
    at_ = bracket + 1;
  }
  if (at_ == end_ || *at_ != '=') return void(Fail());
  ++at_;
}

// Down to the innermost level.
bool ArrayTextReader::OpenBraces() {
  while (at_ != end_ && *at_ == '{') {
    if (depth_ == kDimensionsMax) return Fail();
    counts_[static_cast<size_t>(depth_++)] = 0;
    ++at_;
  }
  if (shape_.dimensions == 0)
    shape_.dimensions = depth_;  // the first element is at the deepest level
  return depth_ == shape_.dimensions && depth_ > 0 ? true : Fail();
}

// Up from an element or a level; false at the end of the text.
bool ArrayTextReader::CloseBraces() {
  while (at_ != end_ && *at_ == '}') {
    const auto level = static_cast<size_t>(--depth_);
    int32_t& size = shape_.sizes[level];
    if (size == 0)
      size = counts_[level];  // a size is never zero: only the whole array can be empty
    if (size != counts_[level]) return Fail();
    ++at_;
    if (depth_ == 0) {
      if (at_ != end_) return Fail();
      if (bounds_.dimensions != 0 &&
          (bounds_.dimensions != shape_.dimensions || bounds_.sizes != shape_.sizes)) {
        return Fail();
      }
      done_ = true;
      return false;
    }
    ++counts_[level - 1];
  }
  if (at_ == end_ || *at_ != delimiter_) return Fail();
  ++at_;
  return true;
}

bool ArrayTextReader::Next(ContainerItem* item) {
  if (done_) return false;
  if (first_) {
    first_ = false;
    if (end_ - at_ == 2 && at_[0] == '{' && at_[1] == '}') {
      done_ = true;
      return bounds_.dimensions == 0 ? false : Fail();
    }
  } else if (!CloseBraces()) {
    return false;
  }
  if (!OpenBraces()) return false;
  return ReadElement(item);
}

bool ArrayTextReader::ReadElement(ContainerItem* item) {
  if (at_ == end_) return Fail();
  ++counts_[static_cast<size_t>(depth_ - 1)];
  if (*at_ == '"') return ReadQuoted(item);
  const char* start = at_;
  while (at_ != end_ && *at_ != delimiter_ && *at_ != '}') {
    if (*at_ == '{' || *at_ == '"' || *at_ == '\\') return Fail();  // the server quotes these
    ++at_;
  }
  item->bytes = {start, static_cast<size_t>(at_ - start)};
  if (item->bytes.empty()) return Fail();
  item->null = item->bytes == "NULL";
  return true;
}

bool ArrayTextReader::ReadQuoted(ContainerItem* item) {
  const char* start = ++at_;
  item->null = false;
  while (at_ != end_ && *at_ != '"' && *at_ != '\\') ++at_;
  if (at_ != end_ && *at_ == '"') {  // nothing is escaped: a view is enough
    item->bytes = {start, static_cast<size_t>(at_ - start)};
    ++at_;
    return true;
  }
  scratch_->assign(start, static_cast<size_t>(at_ - start));
  while (at_ != end_ && *at_ != '"') {
    if (*at_ == '\\' && ++at_ == end_) return Fail();
    scratch_->push_back(*at_++);
  }
  if (at_ == end_) return Fail();
  ++at_;
  item->bytes = *scratch_;
  return true;
}

ArrayBinaryReader::ArrayBinaryReader(std::string_view bytes) : in_(bytes) {
  const int32_t dimensions = in_.I32();
  const uint32_t has_null = in_.U32();
  in_.U32();  // the type of the elements: a domain's own oid for arrays of domains, so it tells
              // nothing
  if (dimensions < 0 || dimensions > kDimensionsMax || has_null > 1) in_.Fail();
  left_ = dimensions > 0 ? 1 : 0;
  for (int i = 0; i < dimensions && !in_.failed(); ++i) {
    const int32_t size = in_.I32();
    const int32_t lower = in_.I32();
    shape_.sizes[static_cast<size_t>(i)] = size;
    shape_.lower_bounds_one = shape_.lower_bounds_one && lower == 1;
    // Each element takes four bytes at least: a size that the value cannot hold must not be
    // believed.
    if (size < 1 || (left_ *= static_cast<uint64_t>(size)) > in_.remaining()) in_.Fail();
  }
  shape_.dimensions = dimensions;
  if (in_.failed()) result_ = CellResult::kMalformed;
}

bool ArrayBinaryReader::Next(ContainerItem* item) {
  if (result_ != CellResult::kOk) return false;
  if (left_ == 0) {
    if (!in_.Finished()) result_ = CellResult::kMalformed;
    return false;
  }
  --left_;
  if (ReadSized(in_, item)) return true;
  result_ = CellResult::kMalformed;
  return false;
}

CompositeTextReader::CompositeTextReader(std::string_view text, std::string* scratch)
    : at_(text.data()), end_(at_ + text.size()), scratch_(scratch) {
  if (text.size() < 2 || text[0] != '(') Fail();
}

bool CompositeTextReader::Fail() {
  result_ = CellResult::kMalformed;
  done_ = true;
  return false;
}

bool CompositeTextReader::Next(ContainerItem* item) {
  if (done_) return false;
  if (*at_ == ')') {
    ++at_;
    done_ = true;
    return at_ == end_ ? false : Fail();
  }
  ++at_;  // the opening parenthesis or a comma
  if (at_ == end_) return Fail();
  if (*at_ == '"') return ReadQuoted(item);
  const char* start = at_;
  while (at_ != end_ && *at_ != ',' && *at_ != ')') {
    if (*at_ == '"' || *at_ == '\\' || *at_ == '(') return Fail();  // the server quotes these
    ++at_;
  }
  if (at_ == end_) return Fail();
  item->bytes = {start, static_cast<size_t>(at_ - start)};
  item->null = item->bytes.empty();
  return true;
}

bool CompositeTextReader::ReadQuoted(ContainerItem* item) {
  const char* start = ++at_;
  item->null = false;
  while (at_ != end_ && *at_ != '"' && *at_ != '\\') ++at_;
  const char* plain_end = at_;
  bool escaped = false;
  while (at_ != end_) {
    if (*at_ == '"') {
      if (end_ - at_ < 2 || at_[1] != '"') break;
      if (!escaped) scratch_->assign(start, static_cast<size_t>(plain_end - start));
      escaped = true;
      scratch_->push_back('"');
      at_ += 2;
    } else if (*at_ == '\\') {
      if (end_ - at_ < 2) return Fail();
      if (!escaped) scratch_->assign(start, static_cast<size_t>(plain_end - start));
      escaped = true;
      scratch_->push_back(at_[1]);
      at_ += 2;
    } else {
      scratch_->push_back(*at_++);  // only after the first escape
    }
  }
  if (at_ == end_) return Fail();
  item->bytes = escaped ? std::string_view(*scratch_)
                        : std::string_view(start, static_cast<size_t>(at_ - start));
  ++at_;
  if (at_ == end_ || (*at_ != ',' && *at_ != ')')) return Fail();
  return true;
}

CompositeBinaryReader::CompositeBinaryReader(std::string_view bytes) : in_(bytes) {
  left_ = in_.I32();
  if (left_ < 0 || in_.failed()) result_ = CellResult::kMalformed;
}

bool CompositeBinaryReader::Next(ContainerItem* item) {
  if (result_ != CellResult::kOk) return false;
  if (left_ == 0) {
    if (!in_.Finished()) result_ = CellResult::kMalformed;
    return false;
  }
  --left_;
  in_.U32();  // the attribute's type: the schema knows it
  if (ReadSized(in_, item)) return true;
  result_ = CellResult::kMalformed;
  return false;
}

}  // namespace etl
