package httpsink

import (
	"errors"
	"fmt"
	"strings"

	"github.com/walpurge/walpurge/cdc/readfile"
	"github.com/walpurge/walpurge/sinks"
)

// ReadSecret reads a secret's file. Sinks call it for every request, so that a new
// secret needs no restart. White space at both ends is dropped. The error says
// what to do and holds nothing of the content.
func ReadSecret(path string) (string, error) {
	b, err := readfile.Read(path, readfile.MaxSecret)
	if err != nil {
		return "", fmt.Errorf("%w; make it readable for this process", err)
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", errors.New("it is empty; write the secret into it")
	}
	return secret, nil
}

// ReadToken is ReadSecret for what the key api_token_file names, which has to fit
// into a header. Errors are of the class Lane.
func ReadToken(path string) (string, error) {
	token, err := ReadSecret(path)
	if err != nil {
		return "", sinks.LaneError(fmt.Errorf("api_token_file: %w", err))
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", sinks.LaneError(errors.New("api_token_file holds more than a token; write one line with the token and nothing else"))
		}
	}
	return token, nil
}
