#pragma once

#include <string>
#include <string_view>

namespace etl {

bool StdinIsTerminal();
bool StderrIsTerminal();
/// Columns of the terminal behind stderr; 80 if unknown.
int TerminalWidth();
/// Asks on the terminal; true only for y or yes.
bool Ask(std::string_view question);

}  // namespace etl
