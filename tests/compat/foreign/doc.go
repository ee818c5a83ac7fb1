// Package foreign runs clients in other languages than Go against etcore: a Python program
// with the package etcd3, and a Rust program with tonic. build.sh makes both.
package foreign
