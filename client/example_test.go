package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"fairlead/client"
	"fairlead/userspace/admin/adminpb"
)

// A rolling update replaces the backends of a pool one after the other: each goes when
// the new one is healthy and nobody uses the old one any more.
func Example_rollingUpdate() {
	agent := startAgent(nil) // stands for one that runs
	defer agent.stop()

	c, err := client.New(agent.socket, client.TLS{}) // such as /run/fairlead/admin.sock
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for old, fresh := range map[string]string{"10.0.0.1:80": "10.0.1.1:80", "10.0.0.2:80": "10.0.1.2:80"} {
		if err := replace(ctx, c, "web", old, fresh); err != nil {
			log.Fatal(err)
		}
	}
	health, err := c.GetHealth(ctx, &adminpb.GetHealthRequest{Pool: "web"})
	if err != nil {
		log.Fatal(err)
	}
	for _, b := range health.GetPools()[0].GetBackends() {
		fmt.Println(b.GetAddress(), b.GetWeight(), b.GetStatus())
	}
	// Output:
	// 10.0.1.1:80 5 healthy
	// 10.0.1.2:80 5 healthy
}

// replace puts a backend in the place of another one. If the new one fails its check,
// the old one goes on as it was.
func replace(ctx context.Context, c *client.Client, pool, old, fresh string) error {
	// It is probed before it is added, and begins with little.
	little, all := uint32(1), uint32(5)
	if _, err := c.AddBackend(ctx, &adminpb.AddBackendRequest{Pool: pool, Backend: fresh, Weight: &little}); err != nil {
		return err
	}
	if err := c.AwaitHealthy(ctx, pool, fresh); err != nil {
		return err
	}
	if _, err := c.SetWeight(ctx, &adminpb.SetWeightRequest{Pool: pool, Backend: fresh, Weight: &all}); err != nil {
		return err
	}
	if _, err := c.DrainBackend(ctx, &adminpb.DrainBackendRequest{Pool: pool, Backend: old}); err != nil {
		return err
	}
	if err := c.AwaitIdle(ctx, pool, old); err != nil {
		return err
	}
	_, err := c.RemoveBackend(ctx, &adminpb.RemoveBackendRequest{Pool: pool, Backend: old})
	return err
}
