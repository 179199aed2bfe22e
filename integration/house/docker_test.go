package house

import (
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// instructions reads a Dockerfile: each instruction with its arguments, in order.
func instructions(t *testing.T, name string) [][2]string {
	t.Helper()
	var out [][2]string
	text := strings.ReplaceAll(regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(read(t, name), ""), "\\\n", " ")
	for line := range strings.SplitSeq(text, "\n") {
		if word, rest, found := strings.Cut(strings.TrimSpace(line), " "); found {
			out = append(out, [2]string{word, strings.Join(strings.Fields(rest), " ")})
		}
	}
	require.NotEmpty(t, out)
	return out
}

// What is handed out as an image is the static binary, certificates, and somebody
// who is not root; and it is built as a release is.
func TestDockerfile(t *testing.T) {
	var build, final [][2]string
	for _, i := range instructions(t, "deploy/docker/Dockerfile") {
		if i[0] == "FROM" && len(build) > 0 {
			build, final = append(build, final...), nil
		}
		final = append(final, i)
		if len(build) == 0 {
			build, final = final, nil
		}
	}
	all := func(of [][2]string, word string) (out []string) {
		for _, i := range of {
			if i[0] == word {
				out = append(out, i[1])
			}
		}
		return out
	}
	require.Equal(t, []string{"scratch"}, all(final, "FROM"))
	require.Equal(t, []string{"65532:65532"}, all(final, "USER"))
	require.Equal(t, []string{`["/walpurge"]`}, all(final, "ENTRYPOINT"))
	require.Equal(t, []string{"/var/lib/walpurge"}, all(final, "VOLUME"), "the only place that is written to, but for /tmp")
	require.Empty(t, all(final, "RUN"), "there is no shell in it")
	for _, c := range all(final, "COPY") {
		require.True(t, strings.HasPrefix(c, "--from=build /out/"), c)
	}
	how := strings.Join(all(build, "RUN"), "\n")
	for _, want := range []string{"CGO_ENABLED=0 go build -trimpath -buildvcs=false", "-X main.version=${VERSION}", "ca-certificates.crt /out/root/etc/ssl/certs/"} {
		require.Contains(t, how, want)
	}
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))[1]
	require.Equal(t, "golang:"+goVersion+" AS build", all(build, "FROM")[0], "the compiler that go.mod asks for")
}

// The compose file refers to files that exist, publishes on loopback only, and
// runs the daemon without rights.
func TestComposeFile(t *testing.T) {
	const name = "deploy/compose/compose.yaml"
	var file struct {
		Services map[string]struct {
			Ports    []string       `yaml:"ports"`
			Volumes  []string       `yaml:"volumes"`
			ReadOnly bool           `yaml:"read_only"`
			CapDrop  []string       `yaml:"cap_drop"`
			Security []string       `yaml:"security_opt"`
			Env      map[string]any `yaml:"environment"`
			Grace    string         `yaml:"stop_grace_period"`
		} `yaml:"services"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, name)), &file))
	require.Len(t, file.Services, 3)
	names := files(t)
	for service, s := range file.Services {
		for _, p := range s.Ports {
			require.True(t, strings.HasPrefix(p, "127.0.0.1:"), "%s publishes %s", service, p)
		}
		for _, v := range s.Volumes {
			if from, _, _ := strings.Cut(v, ":"); strings.HasPrefix(from, ".") {
				at := path.Join("deploy/compose", from)
				require.True(t, strings.Contains("\n"+strings.Join(names, "\n"), "\n"+at), "%s mounts %s, which does not exist", service, from)
			}
		}
	}
	w := file.Services["walpurge"]
	require.True(t, w.ReadOnly)
	require.Equal(t, []string{"ALL"}, w.CapDrop)
	require.Equal(t, []string{"no-new-privileges:true"}, w.Security)
	require.Equal(t, "30s", w.Grace)
	for _, variable := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(read(t, "deploy/examples/shop/walpurge.yaml"), -1) {
		require.Contains(t, w.Env, variable[1])
	}
}
