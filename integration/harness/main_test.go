package harness

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// orphanEnv makes the test binary a process that starts servers, prints their
// pids, and waits to be killed.
const orphanEnv = "HARNESS_TEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		os.Exit(orphan())
	}
	goleak.VerifyTestMain(m)
}

func orphan() int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := StartPostgres(ctx, PostgresConfig{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	vk, err := StartValkey(ctx, ValkeyConfig{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	children, err := childrenOf(pg.PID())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pids := append(children, pg.PID(), vk.PID())
	fmt.Println(strings.Trim(fmt.Sprint(pids), "[]"), pg.dir, vk.dir)
	select {}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func startPostgres(t *testing.T, cfg PostgresConfig) *Postgres {
	pg, err := StartPostgres(testContext(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	return pg
}

func startValkey(t *testing.T, cfg ValkeyConfig) *Valkey {
	vk, err := StartValkey(testContext(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, vk.Close()) })
	return vk
}

// family returns a server's pid and those of its children.
func family(t *testing.T, pid int) []int {
	children, err := childrenOf(pid)
	require.NoError(t, err)
	return append(children, pid)
}

func requireGone(t *testing.T, pids []int) {
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !alive(pid) }, 30*time.Second, time.Millisecond, "pid %d still runs", pid)
	}
}
