package transcript

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// command is one run of etcdctl.
type command struct {
	line  string
	words []string
	input string
}

var (
	wordForm  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\S+`)
	braceForm = regexp.MustCompile(`\{[^}\s]*\}`)
)

// parseScript reads the commands of a script.
func parseScript(text string) ([]command, error) {
	var commands []command
	last := 0 // first of the commands that the last line made
	for i, line := range strings.Split(text, "\n") {
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "|"):
			if len(commands) == 0 {
				return nil, fmt.Errorf("line %d: input without a command", i+1)
			}
			input := strings.TrimPrefix(strings.TrimPrefix(line, "|"), " ") + "\n"
			for j := last; j < len(commands); j++ {
				commands[j].input += input
			}
		default:
			last = len(commands)
			for _, variant := range expandBraces(line) {
				words, err := splitWords(variant)
				if err != nil {
					return nil, fmt.Errorf("line %d: %w", i+1, err)
				}
				commands = append(commands, command{line: variant, words: words})
			}
		}
	}
	return commands, nil
}

// expandBraces makes one line of each word in the first braces.
func expandBraces(line string) []string {
	place := braceForm.FindStringIndex(line)
	if place == nil {
		return []string{line}
	}
	var lines []string
	for _, word := range strings.Split(line[place[0]+1:place[1]-1], ",") {
		lines = append(lines, expandBraces(line[:place[0]]+word+line[place[1]:])...)
	}
	return lines
}

func splitWords(line string) ([]string, error) {
	words := wordForm.FindAllString(line, -1)
	for i, word := range words {
		if !strings.HasPrefix(word, `"`) {
			continue
		}
		plain, err := strconv.Unquote(word)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
		words[i] = plain
	}
	return words, nil
}
