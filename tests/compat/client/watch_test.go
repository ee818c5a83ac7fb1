package client

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The real etcdctl, both versions, prints what it printed with etcd.
func TestEtcdctlWatch(t *testing.T) {
	t.Parallel()
	for name, etcdctl := range map[string]string{"3.7": "bin/etcdctl", "3.6": "etcd36/bin/etcdctl"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
			client := connect(t, server, clientv3.Config{})
			watchWithEtcdctl(t, harness.Tool(t, etcdctl), server, client)
		})
	}
}

func watchWithEtcdctl(t *testing.T, etcdctl string, server *harness.Server, client *clientv3.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, value := range []string{"1", "2"} {
		if _, err := client.Put(ctx, "k", value); err != nil {
			t.Fatal(err)
		}
	}
	run := func(wanted string, input string, words ...string) {
		t.Helper()
		command := exec.CommandContext(ctx, etcdctl, append([]string{"--endpoints=" + server.Endpoint, "watch"}, words...)...)
		output, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdin, err := command.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stdin.Write([]byte(input)); err != nil {
			t.Fatal(err)
		}
		// It watches until it is killed; what it has printed by then counts.
		var got strings.Builder
		lines := bufio.NewScanner(output)
		for got.Len() < len(wanted) && lines.Scan() {
			got.WriteString(lines.Text() + "\n")
		}
		_ = command.Process.Kill()
		_ = command.Wait()
		if got.String() != wanted {
			t.Errorf("%q printed\n%s\nwanted\n%s", words, got.String(), wanted)
		}
	}
	run("PUT\nk\n1\nPUT\nk\n2\n", "", "k", "--rev=2")
	run("PUT\nk\n1\nk\n2\n", "", "k", "--rev=3", "--prev-kv")
	run("PUT\nk\n2\n", "watch --rev=3 k\n", "-i")
	if _, err := client.Delete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	run("DELETE\nk\n2\nk\n\n", "", "k", "--prefix", "--rev=4", "--prev-kv")
	if _, err := client.Compact(ctx, 4); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(ctx, etcdctl, "--endpoints="+server.Endpoint, "watch", "k", "--rev=2")
	output, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "watch was canceled (etcdserver: mvcc: required revision has been compacted)") {
		t.Errorf("a compacted watch: %v\n%s", err, output)
	}
}

// The Go client sees every write once and in order, though its connections break
// and the server is killed in between; progress is told on request.
func TestGoClientWatches(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
	client := connect(t, server, clientv3.Config{})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const watchers, rounds, puts = 5, 3, 200
	var channels []clientv3.WatchChan
	for range watchers {
		channels = append(channels, client.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithCreatedNotify()))
	}
	for _, channel := range channels {
		if created := <-channel; !created.Created {
			t.Fatalf("not created: %+v", created)
		}
	}
	for round := range rounds {
		for number := range puts {
			value := fmt.Sprint(round*puts + number)
			if _, err := client.Put(ctx, "w/"+fmt.Sprint(number%7), value); err != nil {
				t.Fatal(err)
			}
		}
		for _, channel := range channels {
			for seen := 0; seen < puts; {
				response := <-channel
				if err := response.Err(); err != nil {
					t.Fatal(err)
				}
				for _, event := range response.Events {
					if wanted := fmt.Sprint(round*puts + seen); string(event.Kv.Value) != wanted {
						t.Fatalf("round %d: %s, wanted %s", round, event.Kv.Value, wanted)
					}
					seen++
				}
			}
		}
		if round+1 < rounds {
			server.Kill()
			server.Restart(t)
		}
	}
	if err := client.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	for _, channel := range channels {
		if response := <-channel; !response.IsProgressNotify() || response.Header.Revision < rounds*puts+1 {
			t.Fatalf("no progress: %+v", response)
		}
	}
}
