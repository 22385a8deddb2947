# Completion of kubectl-kubervisor in bash, 3.2 and later: the program itself is asked, and knows the cluster's names.

_kubectl_kubervisor() {
  # bash breaks words at = and : too; the program wants them as they are typed.
  local line=${COMP_LINE:0:COMP_POINT} word reply flag=''
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:blank:]] ]] && words+=('')
  word=${words[${#words[@]} - 1]}
  [[ $word == --*=* ]] && flag=${word%%=*}=
  COMPREPLY=()
  while IFS= read -r reply; do
    case $reply in
      :0) compopt -o default 2>/dev/null ;;
      :*) ;;
      *)
        reply=$flag${reply%%$'\t'*}
        # Only what stands behind the last break is bash's to replace.
        COMPREPLY+=("${reply:${#word}-${#2}}")
        ;;
    esac
  done < <("$1" __complete -- "${words[@]:1}" 2>/dev/null)
}

complete -F _kubectl_kubervisor kubectl-kubervisor
