package varnish

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
)

func TestValidateNamesTheKeyAndRepeatsNothing(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"nodes: name the Varnish servers":      func(c *Config) { c.Nodes = nil },
		"nodes: number 1: write it as http":    func(c *Config) { c.Nodes = []string{"hunter2:6081"} },
		"nodes: number 1: write":               func(c *Config) { c.Nodes = []string{"http://hunter2 x"} },
		"nodes: number 2: write":               func(c *Config) { c.Nodes = []string{"http://a", "ftp://hunter2"} },
		"nodes: number 1: no user, password":   func(c *Config) { c.Nodes = []string{"http://u:hunter2@a"} },
		"number 1: no user, password, path":    func(c *Config) { c.Nodes = []string{"http://a/hunter2"} },
		"nodes: number 1: dns+https cannot":    func(c *Config) { c.Nodes = []string{"dns+https://hunter2"} },
		"nodes: number 2: the same node":       func(c *Config) { c.Nodes = []string{"http://hunter2", "http://HUNTER2/"} },
		"header: write the name":               func(c *Config) { c.Header = "hunter2: x" },
		"header: write":                        func(c *Config) { c.Header = "Host" },
		"headers: X-Device: the list is empty": func(c *Config) { c.Headers = urlvariant.Headers{"X-Device": nil} },
		"headers: the lists make more than 64": func(c *Config) {
			c.Headers = urlvariant.Headers{"A": strings.Split("123456789", ""), "B": strings.Split("12345678", "")}
		},
		"headers: XKey means something else":  func(c *Config) { c.Headers = urlvariant.Headers{"XKey": {"a"}} },
		"headers: Host: this header says":     func(c *Config) { c.Headers = urlvariant.Headers{"Host": {"a"}} },
		"confirm: write the name of a header": func(c *Config) { c.Confirm = "" },
	} {
		c := DefaultConfig()
		c.Nodes = []string{"http://10.0.0.5:6081", "https://v.example", "http://[::1]:80", "dns+http://varnish:6081"}
		require.NoError(t, c.Validate())
		change(&c)
		err := c.Validate()
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
		_, err = New(c, nil)
		require.ErrorContains(t, err, says)
	}
}

func TestKinds(t *testing.T) {
	c := DefaultConfig()
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URL), c.Kinds())
	c.Bans = true
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.Everything), c.Kinds())
}
