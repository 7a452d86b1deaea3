#include "base/secret.h"

#include <string.h>

#include <utility>

namespace etl {

void WipeString(std::string& text) {
  explicit_bzero(text.data(), text.capacity());
  text.clear();
}

Secret::Secret(std::string&& text) : text_(text) { WipeString(text); }
// Copied, then wiped: a moved string leaves short texts behind.
// NOLINTNEXTLINE(performance-move-constructor-init)
Secret::Secret(Secret&& other) noexcept : text_(other.text_) { other.Wipe(); }
Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    Wipe();
    text_ = other.text_;
    other.Wipe();
  }
  return *this;
}
Secret::~Secret() { Wipe(); }
Secret Secret::Clone() const { return Secret(std::string(text_)); }
void Secret::Wipe() { WipeString(text_); }

}  // namespace etl
