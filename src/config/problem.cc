#include "config/problem.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "config/nearest.h"

namespace etl {
namespace {

constexpr size_t kExcerptColumns = 160;

std::string_view LineOf(std::string_view text, int line) {
  size_t begin = 0;
  for (int at = 1; at < line; ++at) {
    const size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) return {};
    begin = end + 1;
  }
  std::string_view found = text.substr(begin, text.find('\n', begin) - begin);
  if (found.ends_with('\r')) found.remove_suffix(1);
  return found;
}

bool IsWordChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

// A key whose value must not be shown: a secret's own name, or a likely misspelling of one.
bool LooksSecret(std::string_view key) {
  std::string lower;
  for (char c : key) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (std::string_view part : {"pass", "pwd", "secret", "token", "_key", "phrase", "credential"}) {
    if (lower.find(part) != std::string::npos) return true;
  }
  for (std::string_view name :
       {"password", "token", "hash_key", "private_key", "sign", "webhook"}) {
    if (EditDistance(lower, name) <= 2) return true;
  }
  return false;
}

// Replaces what stands after `key:` or `key=` of secret-looking keys, unless it is a reference in
// braces.
std::string MaskKeyValues(std::string_view line) {
  std::string out;
  size_t at = 0;
  while (at < line.size()) {
    const size_t begin = at;
    while (at < line.size() && IsWordChar(line[at])) ++at;
    const std::string_view word = line.substr(begin, at - begin);
    out += word;
    if (at >= line.size()) break;
    if (word.empty()) {
      out += line[at++];
      continue;
    }
    size_t after = at;
    while (after < line.size() && (line[after] == '"' || line[after] == '\'' || line[after] == ' '))
      ++after;
    if (after >= line.size() || (line[after] != ':' && line[after] != '=')) continue;
    const char separator = line[after];
    ++after;
    while (after < line.size() && line[after] == ' ') ++after;
    if (after >= line.size() || line[after] == '{' || !LooksSecret(word) ||
        line.substr(after).starts_with("//"))
      continue;
    out += line.substr(at, after - at);
    out += "***";
    // In a keyword string the next word goes on; elsewhere the whole rest of the line may belong to
    // the value.
    at = separator == '=' ? std::min(line.find_first_of(" &\"", after), line.size()) : line.size();
  }
  return out;
}

// Replaces the password of every `scheme://user:password@host`.
std::string MaskUrls(std::string line) {
  size_t at = 0;
  while ((at = line.find("://", at)) != std::string::npos) {
    at += 3;
    const size_t end = std::min(line.find_first_of(" /?#\"'", at), line.size());
    // A careless password may hold any of these signs, so the last @ of the line is taken if there
    // is none before.
    size_t host = line.rfind('@', end == line.size() ? end : end - 1);
    if (host == std::string::npos || host < at) host = line.rfind('@');
    if (host == std::string::npos || host < at) continue;
    const size_t colon = line.find(':', at);
    if (colon == std::string::npos || colon >= host) continue;
    line.replace(colon + 1, host - colon - 1, "***");
  }
  return line;
}

}  // namespace

std::string MaskedExcerpt(std::string_view line) {
  std::string shown;
  for (char c : line.substr(0, 4096)) shown += c == '\t' ? ' ' : c;
  shown = EscapeControl(MaskUrls(MaskKeyValues(shown)));
  if (shown.size() > kExcerptColumns) {
    shown.resize(kExcerptColumns);
    // Do not end in half a character.
    while (!shown.empty() && (static_cast<unsigned char>(shown.back()) & 0xc0) == 0x80)
      shown.pop_back();
    if (!shown.empty() && static_cast<unsigned char>(shown.back()) >= 0xc0) shown.pop_back();
    shown += "...";
  }
  return shown;
}

void ProblemList::Add(std::string code, SourceSpan span, std::string what, std::string hint,
                      std::string note) {
  std::string excerpt = span.line > 0 ? MaskedExcerpt(LineOf(text_, span.line)) : std::string();
  problems_.push_back({std::move(code), std::move(what), span, std::move(excerpt), std::move(hint),
                       std::move(note)});
}

std::vector<ConfigProblem> ProblemList::TakeSorted() {
  std::stable_sort(
      problems_.begin(), problems_.end(), [](const ConfigProblem& a, const ConfigProblem& b) {
        return std::pair(a.span.line, a.span.column) < std::pair(b.span.line, b.span.column);
      });
  return std::move(problems_);
}

std::string FormatProblem(const ConfigProblem& problem, std::string_view file) {
  std::string out = fmt::format("error {}: {}\n", problem.code, EscapeControl(problem.what));
  if (problem.span.line > 0) {
    const std::string number = std::to_string(problem.span.line);
    const std::string gutter(number.size(), ' ');
    out += fmt::format("  --> {}:{}:{}\n", EscapeControl(file), problem.span.line,
                       problem.span.column);
    out += fmt::format("{} | {}\n", number, problem.excerpt);
    const int room = static_cast<int>(problem.excerpt.size());
    if (problem.span.column - 1 <= room) {
      const int length =
          std::clamp(problem.span.length, 1, std::max(1, room - problem.span.column + 1));
      out += fmt::format("{} | {}{}", gutter,
                         std::string(static_cast<size_t>(problem.span.column - 1), ' '),
                         std::string(static_cast<size_t>(length), '^'));
      if (!problem.hint.empty()) out += " " + EscapeControl(problem.hint);
      out += "\n";
    } else if (!problem.hint.empty()) {
      out += fmt::format("{} | {}\n", gutter, EscapeControl(problem.hint));
    }
  } else {
    out += fmt::format("  --> {}\n", EscapeControl(file));
    if (!problem.hint.empty()) out += fmt::format("  {}\n", EscapeControl(problem.hint));
  }
  if (!problem.note.empty()) out += fmt::format("  {}\n", EscapeControl(problem.note));
  return out;
}

}  // namespace etl
