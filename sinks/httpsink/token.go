package httpsink

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/walpurge/walpurge/sinks"
)

// ReadToken reads the file that the key api_token_file names. Sinks call it for
// every request, so that a rotated token needs no restart. Errors are of the
// class Lane and never repeat what the file holds.
func ReadToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", sinks.LaneError(fmt.Errorf("api_token_file: %w; make it readable for this process", err))
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", sinks.LaneError(errors.New("api_token_file is empty; write the token into it"))
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", sinks.LaneError(errors.New("api_token_file holds more than a token; write one line with the token and nothing else"))
		}
	}
	return token, nil
}
