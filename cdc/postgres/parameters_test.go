package postgres

import (
	"crypto/tls"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func validated(url string) error {
	cfg := DefaultConfig("test")
	cfg.URL = url
	return cfg.Validate()
}

func TestParametersOfConnectionStrings(t *testing.T) {
	for _, accepted := range []string{
		"keepalives=1", "keepalives=0", "keepalives_idle=30", "keepalives_interval=5", "keepalives_count=3", "tcp_user_timeout=10000", "gssencmode=disable",
		"gssencmode=prefer", "gsslib=gssapi", "gssdelegation=1", "krbsrvname=postgres", "sslcompression=0", "sslcompression=1", "channel_binding=prefer",
		"require_auth=scram-sha-256", "load_balance_hosts=random", "load_balance_hosts=disable", "requirepeer=", "sslcrl=", "replication=database",
		"replication=true", "client_encoding=LATIN1", "fallback_application_name=shop", "application_name=shop", "options=-c%20geqo%3Doff",
		"ssl_min_protocol_version=TLSv1.2", "ssl_max_protocol_version=TLSv1.3", "sslsni=1", "sslcertmode=allow", "sslnegotiation=postgres", "connect_timeout=5",
		"target_session_attrs=read-write", "target_session_attrs=primary", "target_session_attrs=any", "hostaddr=127.0.0.1", "passfile=/nowhere", "ssl=true",
		"min_protocol_version=3.0", "oauth_issuer=https%3A%2F%2Fid.example",
	} {
		require.NoError(t, validated("postgres://app:secret@db/shop?"+accepted), accepted)
		name, value, _ := cut(accepted)
		if name == "ssl" {
			continue // of URLs only
		}
		require.NoError(t, validated("user=app password=secret host=db dbname=shop "+name+"='"+value+"'"), accepted)
		cfg := DefaultConfig("test")
		cfg.URL = "postgres://app:secret@db/shop?" + accepted
		parsed, err := cfg.primary()
		require.NoError(t, err)
		delete(parsed.RuntimeParams, "application_name")
		delete(parsed.RuntimeParams, "options")
		require.Empty(t, parsed.RuntimeParams, "nothing else is sent to the server: %s", accepted)
	}
	for _, refused := range []string{
		"schema=public", "pgbouncer=true", "connection_limit=5", "pool_timeout=3", "currentSchema=shop", "useSSL=true", "ssl=1", "reWriteBatchedInserts=true",
		"pool_max_conns=4", "statement_timeout=1000", "search_path=shop", "timezone=UTC", "default_query_exec_mode=exec", "statement_cache_capacity=0",
		"tty=x", "requiressl=1", "encoding=utf8", "charset=utf8", "serverVersion=16", "prepareThreshold=0", "socketTimeout=3", "sslmode2=x",
		"gssencmode=require", "requirepeer=postgres", "sslcrl=%2Fcrl", "keepalives=yes", "load_balance_hosts=maybe", "ssl_min_protocol_version=4", "hostaddr=db",
	} {
		name, value, _ := cut(refused)
		err := validated("postgres://app:geheim@db/shop?" + refused)
		require.ErrorContains(t, err, `"`+name+`"`, refused)
		require.NotContains(t, err.Error(), "geheim")
		if name != "ssl" {
			require.ErrorContains(t, validated("user=app password=geheim host=db "+name+"='"+value+"'"), `"`+name+`"`, refused)
		}
	}
	for _, standby := range []string{"standby", "prefer-standby", "read-only"} {
		require.ErrorContains(t, validated("postgres://db/shop?target_session_attrs="+standby), "target_session_attrs")
		_, err := Config{}.ReadReplica("postgres://db/shop?target_session_attrs=" + standby)
		require.NoError(t, err)
	}
	err := validated("postgres://db/shop?schema=public&pgbouncer=true")
	require.ErrorContains(t, err, `"schema"`)
	require.ErrorContains(t, err, `"pgbouncer"`)
	require.NotContains(t, validated("postgres://u@db/shop?ge=heim@db/shop").Error(), "ge=", "what may be a password is not shown")
	require.ErrorContains(t, validated("jdbc:postgresql://db/shop?user=app&currentSchema=x"), "postgres.url")
}

func TestParametersAreHonoured(t *testing.T) {
	cfg := DefaultConfig("test")
	cfg.URL = "postgres://app@one,two/shop?hostaddr=127.0.0.1,127.0.0.2&ssl_min_protocol_version=TLSv1.3&fallback_application_name=shop&sslmode=require"
	parsed, err := cfg.primary()
	require.NoError(t, err)
	require.Equal(t, "shop", parsed.RuntimeParams["application_name"])
	require.Equal(t, uint16(tls.VersionTLS13), parsed.TLSConfig.MinVersion)
	require.Equal(t, uint16(tls.VersionTLS13), parsed.Fallbacks[0].TLSConfig.MinVersion)
	addrs, err := parsed.LookupFunc(t.Context(), "two")
	require.NoError(t, err)
	require.Equal(t, []string{"127.0.0.2"}, addrs)

	for _, url := range []string{"postgres:///shop?hostaddr=127.0.0.1", "hostaddr=127.0.0.1 dbname=shop"} {
		cfg.URL = url
		parsed, err = cfg.primary()
		require.NoError(t, err)
		addrs, err = parsed.LookupFunc(t.Context(), parsed.Host)
		require.NoError(t, err)
		require.Equal(t, []string{"127.0.0.1"}, addrs, url)
	}
}

// TestParametersOfTheEnvironment: what other programs need of PG* variables is no fault here.
func TestParametersOfTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"PGTZ": "Asia/Tokyo", "PGOPTIONS": "-c geqo=off", "PGGSSENCMODE": "disable", "PGCLIENTENCODING": "LATIN1", "PGDATESTYLE": "German", "PGAPPNAME": "x", "PGREQUIREAUTH": "none",
	} {
		t.Setenv(name, value)
	}
	require.NoError(t, validated("postgres://db/shop"))
	file := filepath.Join(t.TempDir(), "services")
	require.NoError(t, os.WriteFile(file, []byte("[shop]\nhost=db\nkeepalives=1\n[prisma]\nhost=db\nschema=public\n"), 0o600))
	t.Setenv("PGSERVICEFILE", file)
	require.NoError(t, validated("service=shop"))
	require.ErrorContains(t, validated("service=prisma"), `"schema"`)
}

func cut(pair string) (name, value string, err error) {
	q, err := url.ParseQuery(pair)
	for name := range q {
		return name, q.Get(name), err
	}
	return "", "", err
}
