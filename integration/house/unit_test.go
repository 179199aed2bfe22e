package house

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
)

// installers are the programs that documents may call besides, to install and to
// look at what was installed.
var installers = []string{"valkey-cli", "xargs", "sha256sum", "dpkg", "systemctl", "journalctl", "helm"}

// unit reads the assignments of a unit file, by section and key.
func unit(t *testing.T, name string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	section := ""
	for line := range strings.SplitSeq(read(t, name), "\n") {
		key, value, assigned := strings.Cut(line, "=")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]") + "."
		default:
			require.True(t, assigned, "%s: %q", name, line)
			out[section+key] = append(out[section+key], value)
		}
	}
	return out
}

const unitFile = "deploy/systemd/walpurge.service"

// What the documents promise of the unit is in it.
func TestUnit(t *testing.T) {
	u := unit(t, unitFile)
	for key, want := range map[string]string{
		"Type": "notify", "NotifyAccess": "main", "ExecReload": "/bin/kill -HUP $MAINPID", "TimeoutStartSec": "infinity", "Restart": "always",
		"RestartPreventExitStatus": "2", "User": "walpurge", "StateDirectory": "walpurge", "StateDirectoryMode": "0700", "UMask": "0077",
		"ProtectSystem": "strict", "ProtectHome": "true", "NoNewPrivileges": "true", "PrivateTmp": "true", "PrivateDevices": "true",
		"CapabilityBoundingSet": "", "MemoryDenyWriteExecute": "true", "SystemCallArchitectures": "native",
	} {
		require.Equal(t, []string{want}, u["Service."+key], key)
	}
	require.Contains(t, u["Service.SystemCallFilter"], "@system-service")
	require.Equal(t, []string{"/usr/bin/walpurge run -c /etc/walpurge/walpurge.yaml"}, u["Service.ExecStart"])

	stop, err := time.ParseDuration(u["Service.TimeoutStopSec"][0] + "s")
	require.NoError(t, err)
	require.Greater(t, stop, 2*20*time.Second, "drain_timeout is 20s unless somebody says otherwise")
	watchdog, err := time.ParseDuration(u["Service.WatchdogSec"][0] + "s")
	require.NoError(t, err)
	require.GreaterOrEqual(t, watchdog, 30*time.Second)

	// A credential that was not put there must not keep the service from starting.
	ids := func(key string) (out []string) {
		for _, v := range u["Service."+key] {
			id, _, _ := strings.Cut(v, ":")
			out = append(out, id)
		}
		return out
	}
	require.NotEmpty(t, ids("LoadCredential"))
	require.Equal(t, ids("LoadCredential"), ids("SetCredential"))
}

var credentialForm = regexp.MustCompile(`\$\{CREDENTIALS_DIRECTORY\}/([a-z]+)`)

// The configuration that the package installs is one that the daemon takes, and
// the credentials in it are those that the unit loads.
func TestPackagedConfiguration(t *testing.T) {
	const name = "deploy/debian/walpurge.yaml"
	text := read(t, name)
	credentials := t.TempDir()
	env := map[string]string{"DATABASE_URL": "postgres://db/shop", "CREDENTIALS_DIRECTORY": credentials}
	for _, name := range []string{"postgres", "valkey", "cloudflare"} {
		require.NoError(t, os.WriteFile(filepath.Join(credentials, name), []byte("secret\n"), 0o600))
	}
	loadWith := func(text string) error {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "rules"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "rules", "shop.yaml"), []byte(read(t, "deploy/debian/rules.yaml")), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "walpurge.yaml"), []byte(text), 0o600))
		_, err := config.Load(filepath.Join(dir, "walpurge.yaml"), config.Options{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
		return err
	}
	require.NoError(t, loadWith(text))
	// What is commented out is good, too.
	whole := regexp.MustCompile(`(?m)^#( +[a-z_]+:( |$))`).ReplaceAllString(text, "$1")
	require.NotEqual(t, text, whole)
	require.NoError(t, loadWith(whole))

	var loaded []string
	for _, v := range unit(t, unitFile)["Service.LoadCredential"] {
		id, _, _ := strings.Cut(v, ":")
		loaded = append(loaded, id)
	}
	found := credentialForm.FindAllStringSubmatch(text, -1)
	require.NotEmpty(t, found)
	for _, m := range found {
		require.True(t, slices.Contains(loaded, m[1]), "%s names the credential %s, which %s does not load", name, m[1], unitFile)
	}
}
