package client

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A client that is told a user's name asks for a token first. Where authentication is off it must hear so in etcd's
// words, and goes on without; any other error ends it.
func TestNamesOfUsersWithoutAuthentication(t *testing.T) {
	t.Parallel()
	seen := func(program harness.Program) []string {
		server := harness.Start(t, program, harness.Options{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		client := connect(t, server, clientv3.Config{Username: "root", Password: "secret"})
		var lines []string
		note := func(format string, words ...any) { lines = append(lines, fmt.Sprintf(format, words...)) }
		_, err := client.Put(ctx, "k", "v")
		note("put: %v", err)
		status, err := client.AuthStatus(ctx)
		if err != nil {
			t.Fatalf("%s: %v", program.Name, err)
		}
		note("status: %t, %d at %d", status.Enabled, status.AuthRevision, status.Header.Revision)
		_, err = client.Authenticate(ctx, "root", "secret")
		note("authenticate: %v", err)
		disabled, err := client.AuthDisable(ctx)
		note("disable: %d %v", disabled.Header.Revision, err)
		for _, words := range [][]string{
			{"--user=root:secret", "get", "k"}, {"auth", "status"}, {"auth", "disable"}, {"auth", "status", "-w=json"},
		} {
			command := exec.CommandContext(ctx, harness.Tool(t, "bin/etcdctl"), append([]string{"--endpoints=" + server.Endpoint}, words...)...)
			output, err := command.Output()
			note("etcdctl %q: %s%v", words, output, err)
		}
		return lines
	}
	wanted, got := seen(harness.Etcd37(t)), seen(harness.EtcoreOrReference(t))
	if difference := cmp.Diff(wanted, got); difference != "" {
		t.Errorf("(-reference +subject):\n%s", difference)
	}
}

// Users and roles that etcd has made stay in its directory, and so does the count of their changes.
func TestRevisionOfUsersIsKept(t *testing.T) {
	t.Parallel()
	etcd := harness.Start(t, harness.Etcd37(t), harness.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := connect(t, etcd, clientv3.Config{})
	if _, err := client.UserAdd(ctx, "u", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RoleAdd(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	wanted, err := client.AuthStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	etcd.Stop(t)
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{DataDir: etcd.DataDir})
	got, err := connect(t, server, clientv3.Config{}).AuthStatus(ctx)
	if err != nil || got.AuthRevision != wanted.AuthRevision || got.AuthRevision != 3 {
		t.Errorf("the revision is %d: %v, wanted %d", got.AuthRevision, err, wanted.AuthRevision)
	}
}
