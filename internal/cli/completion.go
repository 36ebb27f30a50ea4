package cli

import (
	"bytes"

	"github.com/spf13/cobra"
)

// bashCompletion asks kist for the words that may follow. It needs nothing but bash itself: not every machine has the library of
// functions for completion, and image names hold colons, at which bash splits words.
const bashCompletion = `# Completion of kist for bash:  source <(kist completion bash)
_kist() {
	local line=${COMP_LINE:0:COMP_POINT} cur='' directive=0 word
	local -a words found
	read -ra words <<<"$line"
	if [[ $line != *[[:space:]] ]]; then
		cur=${words[-1]}
		unset 'words[-1]'
	fi
	mapfile -t found < <("${words[0]}" __completeNoDesc "${words[@]:1}" "$cur" 2>/dev/null)
	COMPREPLY=()
	for word in "${found[@]}"; do
		if [[ $word == :[0-9]* ]]; then
			directive=${word#:}
		elif [[ $word == "$cur"* ]]; then
			COMPREPLY+=("$word")
		fi
	done
	local broken=${cur%"${cur##*[:=]}"}
	if [[ -n $broken && $COMP_WORDBREAKS == *[:=]* ]]; then
		COMPREPLY=("${COMPREPLY[@]#"$broken"}")
	fi
	((directive & 2)) && compopt -o nospace 2>/dev/null
	if ((${#COMPREPLY[@]} == 0 && !(directive & 4))); then
		compopt -o default 2>/dev/null
	fi
	return 0
}
complete -F _kist kist
`

func (a *app) completionCommands() []entry {
	script := func(write func(root *cobra.Command, b *bytes.Buffer) error) func() *cobra.Command {
		return func() *cobra.Command {
			return &cobra.Command{Args: noArgs, RunE: func(c *cobra.Command, _ []string) error {
				var b bytes.Buffer
				if err := write(c.Root(), &b); err != nil {
					return err
				}
				_, err := b.WriteTo(a.out)
				return err
			}}
		}
	}
	return []entry{
		{names: []string{"bash"}, short: "Print the script for bash: source <(kist completion bash)", new: script(func(_ *cobra.Command, b *bytes.Buffer) error {
			b.WriteString(bashCompletion)
			return nil
		})},
		{names: []string{"fish"}, short: "Print the script for fish: kist completion fish | source", new: script(func(root *cobra.Command, b *bytes.Buffer) error {
			return root.GenFishCompletion(b, true)
		})},
		{names: []string{"zsh"}, short: "Print the script for zsh: source <(kist completion zsh)", new: script(func(root *cobra.Command, b *bytes.Buffer) error {
			return root.GenZshCompletion(b)
		})},
	}
}
