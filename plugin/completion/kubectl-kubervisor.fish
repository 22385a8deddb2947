# Completion of kubectl-kubervisor in fish: the program itself is asked, and knows the cluster's names.

function __kubectl_kubervisor_words
    set -l before (commandline -opc)
    set -l word (commandline -ct)
    set -l program $before[1]
    set -e before[1]
    set -l flag (string match -r -- '^--[^=]*=' "$word")
    for reply in ($program __complete -- $before "$word" 2>/dev/null)
        switch $reply
            case :0
                set -l value (string replace -- "$flag" '' "$word")
                printf "$flag%s\n" (__fish_complete_path "$value")
            case ':*'
            case '*'
                echo "$flag$reply"
        end
    end
end

complete -c kubectl-kubervisor -f -a '(__kubectl_kubervisor_words)'
