// Command embed is a program with a balancer in it.
package main

import (
	"context"
	"log"
	"os/signal"
	"syscall"

	"fairlead"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := fairlead.Run(ctx, "config.yaml"); err != nil {
		log.Fatal(err)
	}
}
