package lbtest

import (
	"maps"

	"fairlead/loader"
)

// telling is a row whose packet also counts as a sign of trouble of backend 2.
func (r row) telling(sign loader.Trouble) row {
	r.counts = maps.Clone(r.counts)
	r.counts["backend 2 "+sign.String()] = 1
	return r
}

// sentAgain is a SYN of a flow that its backend has not answered.
func sentAgain() row { return forwarded(syn).telling(loader.LBTroubleTROUBLE_UNANSWERED) }

// troubleRows are packets that may say that a backend does not serve any more: rule 7.
func troubleRows() []row {
	const (
		refused = loader.LBTroubleTROUBLE_REFUSED
		reset   = loader.LBTroubleTROUBLE_RESET
	)
	acknowledged := then(opened, sends(segment(back1, client, syn|ack)))
	closing := then(answered, sends(segment(client, web, fin|ack)))
	return []row{
		sentAgain().as("a SYN that is sent again makes no new flow", opened),
		sentAgain().as("each one counts", then(opened, sends(segment(client, web, syn)))),
		sentAgain().as("one whose flow is checked counts too", then(opened, changed)),
		forwarded(syn).as("a SYN that comes after the backend's answer is no trouble", acknowledged),
		forwarded(syn|fin).as("a SYN with FIN is none that is sent again", opened),
		forwarded(ack).as("what a client sends without SYN is no trouble", opened),
		replied(syn).as("a SYN of the backend is no trouble", opened),
		replied(rst|ack).as("a reset that answers a SYN is a refusal", opened).telling(refused),
		replied(rst).as("a reset that acknowledges nothing is none", opened),
		replied(rst|ack).as("a refusal counts once", then(opened, sends(segment(back1, client, rst|ack)))),
		replied(rst|ack).as("a reset after the answer to a SYN is no trouble", acknowledged),
		forwarded(rst|ack).as("who gives up has not refused", opened),
		replied(rst).as("a backend resets a flow", answered).telling(reset),
		replied(rst).as("the same reset counts once", then(answered, sends(segment(back1, client, rst)))),
		replied(rst|ack).as("a reset of a flow that ends is no trouble", closing),
		forwarded(rst).as("a reset of the client is no trouble", answered),
	}
}
