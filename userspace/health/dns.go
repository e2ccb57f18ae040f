package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// probeDNS asks for the address (A) of the check's name, over UDP.
//
// Healthy is an answer that has the id and the question of the query and says
// that there is such a name, or that there is none: both come from a server
// that works. Any other code (SERVFAIL, REFUSED) is a failure at once. What
// does not answer the query is passed over.
func probeDNS(ctx context.Context, t Target) error {
	name, err := dnsmessage.NewName(strings.TrimSuffix(t.Check.Query, ".") + ".")
	if err != nil {
		return fmt.Errorf("make query for %q: %w", t.Check.Query, err)
	}
	question := dnsmessage.Question{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions: []dnsmessage.Question{question},
	}
	packed, err := query.Pack()
	if err != nil {
		return fmt.Errorf("make query for %q: %w", t.Check.Query, err)
	}
	return exchange(ctx, t, packed, func(answer []byte) error {
		return judgeDNS(answer, query.ID, question)
	})
}

// judgeDNS decides whether answer is one to the question.
func judgeDNS(answer []byte, id uint16, question dnsmessage.Question) error {
	var p dnsmessage.Parser
	header, err := p.Start(answer)
	if err != nil {
		return fmt.Errorf("parse answer: %w", err)
	}
	if !header.Response || header.ID != id {
		return errors.New("parse answer: it is to another query")
	}
	if header.RCode != dnsmessage.RCodeSuccess && header.RCode != dnsmessage.RCodeNameError {
		return fmt.Errorf("query %w: %s", errFinal, strings.TrimPrefix(header.RCode.String(), "RCode"))
	}
	got, err := p.Question()
	if err != nil {
		return fmt.Errorf("parse answer: %w", err)
	}
	if got.Type != question.Type || got.Class != question.Class ||
		!strings.EqualFold(got.Name.String(), question.Name.String()) {
		return fmt.Errorf("parse answer: it is to the question %s", quote([]byte(got.Name.String())))
	}
	return nil
}
