#compdef kubectl-kubervisor
# Completion of kubectl-kubervisor in zsh: the program itself is asked, and knows the cluster's names.

_kubectl-kubervisor() {
  local reply word
  local -a replies words_told
  replies=("${(@f)$("${(Q)words[1]}" __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
  # Of --flag=value only the value is completed.
  compset -P '--[^=]#='
  for reply in "${replies[@]}"; do
    case $reply in
      (:0) _files ;;
      (:*|'') ;;
      (*)
        word=${${reply%%$'\t'*}//:/\\:}
        [[ $reply == *$'\t'* ]] && word+=:${reply#*$'\t'}
        words_told+=("$word")
        ;;
    esac
  done
  (( $#words_told )) && _describe word words_told
}

if [[ $funcstack[1] == _kubectl-kubervisor ]]; then
  _kubectl-kubervisor "$@"
else
  compdef _kubectl-kubervisor kubectl-kubervisor
fi
