package recipes

import (
	"fmt"
	"strconv"
	"testing"

	"etcore/tests/compat/harness"

	"go.etcd.io/etcd/client/v3/concurrency"
	"golang.org/x/sync/errgroup"
)

// Money moves between accounts in transactions of each isolation that forbids to lose
// updates; none is made or lost.
func TestTransactionalMemoryKeepsTheSum(t *testing.T) {
	t.Parallel()
	isolations := map[string]concurrency.Isolation{
		"serializable snapshot": concurrency.SerializableSnapshot,
		"serializable":          concurrency.Serializable,
		"repeatable reads":      concurrency.RepeatableReads,
	}
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		for name, isolation := range isolations {
			t.Run(name, func(t *testing.T) {
				transfers(t, access, name, isolation)
			})
		}
	})
}

func transfers(t *testing.T, access *harness.Access, prefix string, isolation concurrency.Isolation) {
	const accounts, workers, rounds, start = 5, 4, 15, 100
	ctx := within(t)
	client := access.Client(t)
	account := func(number int) string { return fmt.Sprintf("%s/%d", prefix, number%accounts) }
	for number := range accounts {
		_, err := client.Put(ctx, account(number), strconv.Itoa(start))
		check(t, err)
	}
	var group errgroup.Group
	for worker := range workers {
		group.Go(func() error {
			for round := range rounds {
				from, to := account(worker+round), account(worker*round+round+worker+1)
				_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
					if from == to {
						return nil
					}
					left, err := strconv.Atoi(stm.Get(from))
					if err != nil {
						return err
					}
					right, err := strconv.Atoi(stm.Get(to))
					if err != nil {
						return err
					}
					stm.Put(from, strconv.Itoa(left-round))
					stm.Put(to, strconv.Itoa(right+round))
					return nil
				}, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(ctx), concurrency.WithPrefetch(from, to))
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	check(t, group.Wait())
	sum := 0
	for _, value := range pairs(t, client, prefix+"/") {
		amount, err := strconv.Atoi(value)
		check(t, err)
		sum += amount
	}
	if sum != accounts*start {
		t.Fatalf("%d were made of %d", sum, accounts*start)
	}
}

// The weakest isolation promises no more than that what is read was committed.
func TestTransactionalMemoryReadsWhatIsCommitted(t *testing.T) {
	t.Parallel()
	harness.EachAccess(t, func(t *testing.T, access *harness.Access) {
		ctx := within(t)
		client := access.Client(t)
		_, err := client.Put(ctx, "a", "1")
		check(t, err)
		response, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
			stm.Put("b", stm.Get("a")+stm.Get("none"))
			stm.Del("a")
			if stm.Get("a") != "" || stm.Rev("b") != 0 {
				return fmt.Errorf("own writes: %q at %d", stm.Get("a"), stm.Rev("b"))
			}
			return nil
		}, concurrency.WithIsolation(concurrency.ReadCommitted), concurrency.WithAbortContext(ctx))
		check(t, err)
		if left := pairs(t, client, ""); !response.Succeeded || len(left) != 1 || left["b"] != "1" {
			t.Fatalf("left are %v", left)
		}
	})
}
