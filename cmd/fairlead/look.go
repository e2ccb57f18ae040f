package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"fairlead/client"
	"fairlead/cmd/internal/command"
	"fairlead/userspace/admin/adminpb"
)

func healthCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "health",
		Usage: "show how the backends of a running agent's pools are",
		Flags: remoteFlags(poolFlags(command.OutputFlag())...),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			r := &adminpb.GetHealthRequest{}
			if c.String("pool")+c.String("pattern") != "" {
				var err error
				if r.Pool, err = poolOf(c, lb); err != nil {
					return err
				}
			}
			health, err := lb.GetHealth(c.Context, r)
			if err != nil {
				return err
			}
			return write(c, w.out, health, func() error { return writeHealth(w, health) })
		}),
	}
}

func writeHealth(w world, health *adminpb.GetHealthResponse) error {
	var rows [][]string
	for _, p := range health.GetPools() {
		for _, b := range p.GetBackends() {
			rows = append(rows, []string{
				p.GetName(), p.GetStatus(), called(b), b.GetStatus(), strconv.Itoa(int(b.GetWeight())), strconv.FormatUint(b.GetFlows(), 10),
				clock(w, b.GetSince()), clock(w, b.GetLastProbe()), oneLine(b.GetLastError()),
			})
		}
		if len(p.GetBackends()) == 0 {
			rows = append(rows, []string{p.GetName(), p.GetStatus(), "", "", "", "", "", "", ""})
		}
	}
	return command.WriteTable(w.out, []string{"POOL", "STATUS", "BACKEND", "HEALTH", "WEIGHT", "FLOWS", "SINCE", "LAST CHECK", "LAST ERROR"}, rows)
}

// called returns a backend's address and, of one that is given by a name, that.
func called(b *adminpb.Backend) string {
	if b.GetName() == "" {
		return b.GetAddress()
	}
	return fmt.Sprintf("%s (%s)", b.GetAddress(), b.GetName())
}

// clock returns the time of day, with the date if it is not today's, "" if it is not
// known.
func clock(w world, at *timestamppb.Timestamp) string {
	if at == nil || at.AsTime().Unix() <= 0 {
		return ""
	}
	now := w.now()
	t := at.AsTime().In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

func servicesCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "services",
		Usage: "list the services of a running agent, and what serves each",
		Flags: remoteFlags(own("service", "show the service `NAME` alone"), command.OutputFlag()),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			list, err := lb.ListServices(c.Context, &adminpb.ListServicesRequest{Service: c.String("service")})
			if err != nil {
				return err
			}
			return write(c, w.out, list, func() error { return writeServices(w, list) })
		}),
	}
}

func writeServices(w world, list *adminpb.ListServicesResponse) error {
	var rows [][]string
	for _, s := range list.GetServices() {
		up, flows := 0, uint64(0)
		for _, b := range s.GetBackends() {
			flows += b.GetFlows()
			if b.GetUp() {
				up++
			}
		}
		rows = append(rows, []string{
			s.GetName(), s.GetListen(), s.GetProtocol(), s.GetForward(), s.GetRung(), strconv.Itoa(up) + "/" + strconv.Itoa(len(s.GetBackends())),
			strconv.FormatUint(flows, 10), oneLine(s.GetReason()),
		})
	}
	return command.WriteTable(w.out, []string{"SERVICE", "LISTEN", "PROTOCOL", "FORWARD", "RUNG", "UP", "FLOWS", "REASON"}, rows)
}
