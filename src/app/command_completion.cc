#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "app/commands.h"
#include "config/load.h"

namespace etl {
namespace {

// The scripts ask the program itself for the pipelines of the configuration at hand (`completion
// names`), so that they are always the live ones.
constexpr std::string_view kBash =
    R"sh(# etl-stream completion bash > /etc/bash_completion.d/etl-stream
_etl_stream() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command= word config=()
  local commands="@COMMANDS@"
  local i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == --config ]]; then config=(--config "${COMP_WORDS[i+1]}"); fi
    if [[ -z $command && " $commands " == *" $word "* ]]; then command=$word; fi
  done
  case $previous in
    --config) COMPREPLY=($(compgen -f -- "$current")); return ;;
    --log-level) COMPREPLY=($(compgen -W "debug info warn error" -- "$current")); return ;;
    --log-format) COMPREPLY=($(compgen -W "text json" -- "$current")); return ;;
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$current")); return ;;
    help) COMPREPLY=($(compgen -W "$commands" -- "$current")); return ;;
    pipeline) COMPREPLY=($(compgen -W "start pause resync drop" -- "$current")); return ;;
    key) COMPREPLY=($(compgen -W "generate rotate" -- "$current")); return ;;
    --out) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "@OPTIONS@" -- "$current"))
  elif [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "$commands" -- "$current"))
  elif [[ " check sync status tap verify query pipeline " == *" $command "* ]]; then
    COMPREPLY=($(compgen -W "$(etl-stream "${config[@]}" completion names 2>/dev/null)" -- "$current"))
  fi
}
complete -F _etl_stream etl-stream
)sh";

constexpr std::string_view kZsh = R"sh(#compdef etl-stream
# etl-stream completion zsh > "${fpath[1]}/_etl-stream"
_etl_stream() {
  local -a commands names
  commands=(@COMMANDS@)
  if (( CURRENT == 2 )); then
    compadd -- $commands @OPTIONS@
    return
  fi
  case ${words[CURRENT-1]} in
    --config) _files; return ;;
    --log-level) compadd debug info warn error; return ;;
    --log-format) compadd text json; return ;;
    completion) compadd bash zsh fish; return ;;
    help) compadd -- $commands; return ;;
    pipeline) compadd start pause resync drop; return ;;
    key) compadd generate rotate; return ;;
    --out) _files; return ;;
  esac
  if [[ ${words[CURRENT]} == -* ]]; then
    compadd -- @OPTIONS@
  else
    names=(${(f)"$(etl-stream completion names 2>/dev/null)"})
    compadd -- $names $commands
  fi
}
compdef _etl_stream etl-stream
)sh";

constexpr std::string_view kFish =
    R"sh(# etl-stream completion fish > ~/.config/fish/completions/etl-stream.fish
complete -c etl-stream -f
complete -c etl-stream -n __fish_use_subcommand -a "@COMMANDS@"
complete -c etl-stream -n "__fish_seen_subcommand_from check sync status tap verify query pipeline" -a "(etl-stream completion names 2>/dev/null)"
complete -c etl-stream -n "__fish_seen_subcommand_from pipeline" -a "start pause resync drop"
complete -c etl-stream -n "__fish_seen_subcommand_from key" -a "generate rotate"
complete -c etl-stream -n "__fish_seen_subcommand_from completion" -a "bash zsh fish"
complete -c etl-stream -n "__fish_seen_subcommand_from help" -a "@COMMANDS@"
complete -c etl-stream -l config -r -F
complete -c etl-stream -l log-level -x -a "debug info warn error"
complete -c etl-stream -l log-format -x -a "text json"
complete -c etl-stream -l allow-plaintext-secrets
complete -c etl-stream -l json
complete -c etl-stream -l help
)sh";

constexpr std::string_view kOptions =
    "--config --log-level --log-format --allow-plaintext-secrets --json --table --yes --fix-sql "
    "--from --to --out --user --bits --role --help";

std::string Filled(std::string_view script) {
  std::string out;
  const std::string commands = fmt::format("{}", fmt::join(CommandNames(), " "));
  for (size_t at = 0; at < script.size();) {
    if (script.substr(at).starts_with("@COMMANDS@")) {
      out += commands;
      at += std::string_view("@COMMANDS@").size();
    } else if (script.substr(at).starts_with("@OPTIONS@")) {
      out += kOptions;
      at += std::string_view("@OPTIONS@").size();
    } else {
      out += script[at++];
    }
  }
  return out;
}

}  // namespace

Result<int> CompletionCommand(Session& session) {
  const std::string& shell = session.line().shell;
  if (shell == "names") {
    const LoadedConfig loaded = LoadConfigFile(session.line().config);
    if (loaded.config == nullptr) return 0;
    for (const auto& entry : loaded.config->pipelines) Print(entry.first + "\n");
    return 0;
  }
  Print(Filled(shell == "zsh" ? kZsh : shell == "fish" ? kFish : kBash));
  return 0;
}

}  // namespace etl
