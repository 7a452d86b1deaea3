#pragma once

#include <string>
#include <string_view>

namespace etl {

/// A password, key or token: wiped when it ends, movable but not copyable, without any way to print
/// it.
class Secret {
 public:
  Secret() = default;
  /// Takes the text and wipes the argument.
  explicit Secret(std::string&& text);
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();

  bool empty() const { return text_.empty(); }
  /// Only for the one call that needs it; the view must not be kept or logged.
  std::string_view Reveal() const { return text_; }
  /// An explicit second owner, for a value that several connections need.
  Secret Clone() const;

 private:
  void Wipe();
  std::string text_;
};

/// Overwrites the bytes in a way the compiler may not remove, then empties the string.
void WipeString(std::string& text);

}  // namespace etl
