package call

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Secret reads a secret's file, which is done for every call so that a new
// secret needs no restart. White space at both ends is dropped. The error says
// what to do and holds nothing of the content.
func Secret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w; make it readable for this process", err)
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", errors.New("it is empty; write the secret into it")
	}
	return secret, nil
}
