#include "config/yaml_tree.h"

#include <algorithm>
#include <map>
#include <sstream>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "base/log.h"

namespace etl {
namespace {

SourceSpan SpanOf(const YAML::Mark& mark, size_t length = 1) {
  return {mark.line + 1, mark.column + 1, static_cast<int>(std::max<size_t>(length, 1))};
}

// Builds the tree from events. What is refused is reported and then left out, so that one parse
// finds everything.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(ProblemList& problems) : problems_(problems) {}

  YamlNode TakeRoot() { return std::move(root_); }
  int documents() const { return documents_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 2)
      problems_.Add("ETL-C001", SpanOf(mark), "the file holds a second document",
                    "only one is allowed");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    RefuseAnchor(mark, anchor);
    YamlNode node;
    node.span = SpanOf(mark);
    Leaf(std::move(node), mark);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    problems_.Add("ETL-C001", SpanOf(mark), "aliases (*name) are not allowed in a configuration",
                  "write the value out");
    YamlNode node;
    node.span = SpanOf(mark);
    node.kind = YamlNode::Kind::kScalar;
    Leaf(std::move(node), mark);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    RefuseAnchor(mark, anchor);
    // "?" is a plain scalar, "!" one in quotes or a block; everything else was written by the user.
    RefuseTag(mark, tag);
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.quoted = tag == "!";
    node.span = SpanOf(mark, value.size() + (node.quoted ? 2 : 0));
    node.text = value;
    Leaf(std::move(node), mark);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Frame {
    YamlNode node;
    bool has_key = false;
    bool drop_value = false;  // the key was refused
    std::string key;
    SourceSpan key_span;
    std::map<std::string, int> lines;  // of the keys so far
  };

  void RefuseAnchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0)
      problems_.Add("ETL-C001", SpanOf(mark), "anchors (&name) are not allowed in a configuration",
                    "remove it");
  }
  void RefuseTag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") {
      problems_.Add("ETL-C001", SpanOf(mark), "tags (!name) are not allowed in a configuration",
                    "remove it");
    }
  }

  void Open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    RefuseAnchor(mark, anchor);
    RefuseTag(mark, tag);
    if (static_cast<int>(stack_.size()) >= kYamlDepthMax) {
      if (skipped_++ == 0 && !too_deep_) {
        too_deep_ = true;
        problems_.Add("ETL-C001", SpanOf(mark), fmt::format("more than {} levels", kYamlDepthMax));
      }
      return;
    }
    if (skipped_ > 0) return;
    Frame frame;
    frame.node.kind = kind;
    frame.node.span = SpanOf(mark);
    stack_.push_back(std::move(frame));
  }

  void Close() {
    if (skipped_ > 0) {
      if (--skipped_ > 0) return;
      // What was left out still stands for one value.
      Put(YamlNode(), SourceSpan());
      return;
    }
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    const SourceSpan span = frame.node.span;
    Put(std::move(frame.node), span);
  }

  void Leaf(YamlNode node, const YAML::Mark& mark) {
    if (skipped_ > 0) return;
    Put(std::move(node), SpanOf(mark));
  }

  void Put(YamlNode node, SourceSpan span) {
    if (stack_.empty()) {
      if (documents_ <= 1) root_ = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.node.kind == YamlNode::Kind::kList) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.has_key) {
      PutKey(frame, std::move(node), span);
    } else {
      frame.has_key = false;
      if (!frame.drop_value)
        frame.node.entries.push_back({std::move(frame.key), frame.key_span, std::move(node)});
    }
  }

  void PutKey(Frame& frame, YamlNode node, SourceSpan span) {
    frame.has_key = true;
    frame.drop_value = true;
    if (node.kind != YamlNode::Kind::kScalar) {
      problems_.Add("ETL-C001", span, "a key must be text");
      return;
    }
    if (node.text == "<<" && !node.quoted) {
      problems_.Add("ETL-C001", node.span, "merge keys (<<) are not allowed in a configuration",
                    "write the values out");
      return;
    }
    const auto [at, fresh] = frame.lines.emplace(node.text, node.span.line);
    if (!fresh) {
      problems_.Add("ETL-C010", node.span,
                    fmt::format("duplicate key \"{}\"", EscapeControl(node.text)),
                    fmt::format("already given in line {}", at->second));
      return;
    }
    frame.drop_value = false;
    frame.key = std::move(node.text);
    frame.key_span = node.span;
  }

  ProblemList& problems_;
  YamlNode root_;
  std::vector<Frame> stack_;
  int documents_ = 0;
  int skipped_ = 0;  // open levels beyond the limit
  bool too_deep_ = false;
};

// The byte at which `text` stops being UTF-8 without NUL; its size if it does not.
size_t FirstBadByte(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xc2 && lead < 0xe0 ? 2
                          : lead >= 0xe0 && lead < 0xf0 ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    if (lead == 0 || length == 0 || at + length > text.size()) return at;
    for (size_t i = 1; i < length; ++i) {
      if ((static_cast<unsigned char>(text[at + i]) & 0xc0) != 0x80) return at;
    }
    at += length;
  }
  return at;
}

SourceSpan SpanOfByte(std::string_view text, size_t at) {
  const std::string_view before = text.substr(0, at);
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  int line = 1;
  for (char c : before) line += c == '\n' ? 1 : 0;
  return {line, static_cast<int>(at - line_start) + 1, 1};
}

}  // namespace

std::string_view KindName(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull: return "nothing";
    case YamlNode::Kind::kScalar: return "text";
    case YamlNode::Kind::kList: return "a list";
    case YamlNode::Kind::kMap: return "a map";
  }
  return "nothing";
}

YamlNode ParseYaml(std::string_view text, ProblemList& problems) {
  if (text.size() > kYamlBytesMax) {
    problems.Add("ETL-C001", {}, fmt::format("the file is larger than {} bytes", kYamlBytesMax));
    return {};
  }
  if (const size_t bad = FirstBadByte(text); bad < text.size()) {
    problems.Add("ETL-C001", SpanOfByte(text, bad), "the file is not UTF-8 text");
    return {};
  }
  TreeBuilder builder(problems);
  // yaml-cpp reports syntax errors by exceptions; they end here.
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    // A stray mark such as "," makes the parser find empty documents for ever.
    while (builder.documents() < 2 && parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    const bool placed = !error.mark.is_null();
    problems.Add("ETL-C001", placed ? SpanOf(error.mark) : SourceSpan(),
                 fmt::format("not valid YAML: {}", error.msg));
    return {};
  }
  return builder.TakeRoot();
}

}  // namespace etl
