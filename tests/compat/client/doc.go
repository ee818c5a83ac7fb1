// Package client uses servers through etcd's own Go client.
package client
