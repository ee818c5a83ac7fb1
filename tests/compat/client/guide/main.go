// Command guide is a client as guides print it: connect, put, get, delete, and
// a transaction that writes a key only if nobody has.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatalf("usage: %s ENDPOINT", os.Args[0])
	}
	cli, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{os.Args[1]},
		DialTimeout: 5 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer cli.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := cli.Put(ctx, "sample_key", "sample_value"); err != nil {
		log.Fatal(err)
	}
	got, err := cli.Get(ctx, "sample_key")
	if err != nil {
		log.Fatal(err)
	}
	for _, kv := range got.Kvs {
		fmt.Printf("%s : %s\n", kv.Key, kv.Value)
	}

	for range 2 {
		taken, err := cli.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision("lock"), "=", 0)).
			Then(clientv3.OpPut("lock", "me")).
			Else(clientv3.OpGet("lock")).
			Commit()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("lock taken:", taken.Succeeded)
		if !taken.Succeeded {
			fmt.Printf("held by %s\n", taken.Responses[0].GetResponseRange().Kvs[0].Value)
		}
	}

	deleted, err := cli.Delete(ctx, "sample_key")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("deleted:", deleted.Deleted)
	all, err := cli.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("left:", all.Count, "revision:", all.Header.Revision)
}
