package engine

import "strings"

// detachKeys reads docker's syntax: keys separated by commas, each a character or ctrl- and one of a-z, @, [, \, ], ^, _.
func detachKeys(text string) ([]byte, error) {
	if text == "" {
		return []byte{0x10, 0x11}, nil // ctrl-p,ctrl-q
	}
	var keys []byte
	for key := range strings.SplitSeq(text, ",") {
		letter, ctrl := strings.CutPrefix(strings.ToLower(key), "ctrl-")
		switch {
		case !ctrl && len(key) == 1:
			keys = append(keys, key[0])
		case ctrl && len(letter) == 1 && letter[0] >= 'a' && letter[0] <= 'z':
			keys = append(keys, letter[0]-'a'+1)
		case ctrl && len(letter) == 1 && strings.Contains(`@[\]^_`, letter):
			keys = append(keys, letter[0]-'@')
		default:
			return nil, invalid("Invalid detach keys (%s) provided", text)
		}
	}
	return keys, nil
}
