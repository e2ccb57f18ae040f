package httpproxy

// An oddity is what somebody may send who wants two servers to see different
// requests, or who just does not know better. One more request follows it.
type oddity struct {
	name, request string
	// arrives is what a backend gets of both, nothing if it is refused: the methods,
	// paths and bodies of requests.
	arrives []string
}

// both is what arrives of a request and the one that follows.
func both(request string) []string { return []string{request, "GET /after []"} }

const (
	get  = "GET /odd HTTP/1.1\r\n"
	post = "POST /odd HTTP/1.1\r\nHost: a\r\n"
	host = "Host: a\r\n"
	end  = "\r\n"
	// chunks are 5 bytes; inner is a body that looks like a request.
	chunks = "Transfer-Encoding: chunked\r\n\r\n"
	inner  = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
)

var oddities = []oddity{
	// What is as it should be.
	{"a plain request", get + host + end, both("GET /odd []")},
	{"a body with a length", post + "Content-Length: 5\r\n\r\nhello", both("POST /odd [hello]")},
	{"a body that looks like a request", post + "Content-Length: 32\r\n\r\n" + inner, both("POST /odd [" + inner + "]")},
	{"chunks", post + chunks + "5\r\nhello\r\n0\r\n\r\n", both("POST /odd [hello]")},
	{"chunks in capitals", post + "TRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", both("POST /odd [hello]")},
	{"a size in capitals, with zeros", post + chunks + "0000A\r\nhellohello\r\n00\r\n\r\n", both("POST /odd [hellohello]")},
	{"a chunk with an extension", post + chunks + "5;a=b\r\nhello\r\n0\r\n\r\n", both("POST /odd [hello]")},
	{"a chunk with a quoted extension", post + chunks + "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", both("POST /odd [hello]")},
	{"a trailer", post + chunks + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", both("POST /odd [hello]")},
	{"a request of HTTP/1.0 that goes on", "GET /odd HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", both("GET /odd []")},
	{"a length with zeros", post + "Content-Length: 0005\r\n\r\nhello", both("POST /odd [hello]")},
	{"a length of nothing", post + "Content-Length: 0\r\n\r\n", both("POST /odd []")},
	{"a length amid blanks", post + "Content-Length: \t 5 \t\r\n\r\nhello", both("POST /odd [hello]")},
	{"a coding amid blanks", post + "Transfer-Encoding: \tchunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n", both("POST /odd [hello]")},
	{"a GET with a body", get + host + "Content-Length: 5\r\n\r\nhello", both("GET /odd [hello]")},
	{"a GET with chunks", get + host + chunks + "5\r\nhello\r\n0\r\n\r\n", both("GET /odd [hello]")},
	{"a method that is only odd", "Get /odd HTTP/1.1\r\nHost: a\r\n\r\n", both("Get /odd []")},
	{"a value beyond ASCII", get + host + "X: \xe4\r\n\r\n", both("GET /odd []")},
	{"an empty value", get + host + "X:\r\n\r\n", both("GET /odd []")},
	{"the whole URL", "GET http://a/odd HTTP/1.1\r\nHost: a\r\n\r\n", both("GET /odd []")},
	{"who waits to be asked for the body", post + "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", both("POST /odd [hello]")},
	{"a length that is of the connection alone", post + "Content-Length: 5\r\nConnection: content-length\r\n\r\nhello", both("POST /odd [hello]")},
	{"a coding that is of the connection alone", post + "Connection: transfer-encoding\r\n" + chunks + "5\r\nhello\r\n0\r\n\r\n", both("POST /odd [hello]")},
	{"an upgrade to HTTP/2", get + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", both("GET /odd []")},

	// Ends of lines.
	{"line feeds alone", "GET /odd HTTP/1.1\nHost: a\n\n", nil},
	{"a line feed alone after the first line", "GET /odd HTTP/1.1\nHost: a\r\n\r\n", nil},
	{"a line feed alone after a header", get + "Host: a\nX: y\r\n\r\n", nil},
	{"a line feed alone at the end of the header", get + "Host: a\r\n\n", nil},
	{"a line feed alone that hides a length", post + "X: y\nContent-Length: 5\r\n\r\nhello", nil},
	{"a carriage return alone at the end of a line", get + "Host: a\rX: y\r\n\r\n", nil},
	{"a carriage return alone in a value", get + host + "X: a\rb\r\n\r\n", nil},
	{"two carriage returns", get + "Host: a\r\r\n\r\n", nil},
	{"a folded line", get + host + "X: a\r\n b\r\n\r\n", nil},
	{"a line folded with a tab", get + host + "X: a\r\n\tb\r\n\r\n", nil},
	{"a folded coding", post + "Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"a folded length", post + "Content-Length:\r\n 5\r\n\r\nhello", nil},
	{"a header that begins with a blank", get + " Host: a\r\n\r\n", nil},
	{"a blank line with a blank", get + host + " \r\n\r\n", nil},

	// Names and values.
	{"a blank before the colon", get + "Host : a\r\n\r\n", nil},
	{"a tab before the colon", get + host + "X\t: y\r\n\r\n", nil},
	{"a length with a blank before the colon", post + "Content-Length : 5\r\n\r\nhello", nil},
	{"a coding with a blank before the colon", post + "Transfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"NUL in a name", get + host + "X\x00Y: z\r\n\r\n", nil},
	{"NUL in a value", get + host + "X: y\x00z\r\n\r\n", nil},
	{"NUL in the path", "GET /o\x00dd HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	{"a control character in a value", get + host + "X: y\x01z\r\n\r\n", nil},
	{"a header without a colon", get + host + "X\r\n\r\n", nil},
	{"a header without a name", get + host + ": y\r\n\r\n", nil},
	{"a name that is no token", get + host + "X(y): z\r\n\r\n", nil},
	{"a name beyond ASCII", get + host + "X\xe4: z\r\n\r\n", nil},

	// Lengths and codings.
	{"a length and chunks", post + "Content-Length: 5\r\n" + chunks + "5\r\nhello\r\n0\r\n\r\n", nil},
	{"chunks and a length", post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"a length that ends before the chunks", post + "Content-Length: 3\r\n" + chunks + "0\r\n\r\n" + inner, nil},
	{"a length that goes beyond the chunks", post + "Content-Length: 37\r\n" + chunks + "0\r\n\r\n" + inner, nil},
	{"two lengths that are the same", post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", nil},
	{"two lengths", post + "Content-Length: 5\r\nContent-Length: 37\r\n\r\nhello", nil},
	{"a list of lengths", post + "Content-Length: 5, 5\r\n\r\nhello", nil},
	{"a length with a plus", post + "Content-Length: +5\r\n\r\nhello", nil},
	{"a length with a minus", post + "Content-Length: -5\r\n\r\nhello", nil},
	{"a length in hexadecimal", post + "Content-Length: 0x5\r\n\r\nhello", nil},
	{"a length that is no number", post + "Content-Length: five\r\n\r\nhello", nil},
	{"a length with a fraction", post + "Content-Length: 5.0\r\n\r\nhello", nil},
	{"a length with a blank in it", post + "Content-Length: 5 5\r\n\r\nhello", nil},
	{"a length with an underscore", post + "Content-Length: 0_5\r\n\r\nhello", nil},
	{"an empty length", post + "Content-Length:\r\n\r\nhello", nil},
	{"a length beyond 64 bits", post + "Content-Length: 18446744073709551621\r\n\r\nhello", nil},
	{"another coding", post + "Transfer-Encoding: gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"no coding", post + "Transfer-Encoding: identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"an empty coding", post + "Transfer-Encoding:\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"two codings", post + "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"chunks that are not last", post + "Transfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"chunks twice", post + "Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"two lines of codings", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"two lines, one of them no coding", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"a coding with something before", post + "Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"a coding with a parameter", post + "Transfer-Encoding: chunked;q=1\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"a quoted coding", post + "Transfer-Encoding: \"chunked\"\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"a coding after a vertical tab", post + "Transfer-Encoding: \x0bchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", nil},
	{"chunks in HTTP/1.0", "POST /odd HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" + chunks + "5\r\nhello\r\n0\r\n\r\n", nil},

	// Chunks.
	{"a size in hexadecimal, as C has it", post + chunks + "0x5\r\nhello\r\n0\r\n\r\n", nil},
	{"a size after a blank", post + chunks + " 5\r\nhello\r\n0\r\n\r\n", nil},
	{"a size before a blank", post + chunks + "5 \r\nhello\r\n0\r\n\r\n", nil},
	{"a size with a minus", post + chunks + "-5\r\nhello\r\n0\r\n\r\n", nil},
	{"a size with a plus", post + chunks + "+5\r\nhello\r\n0\r\n\r\n", nil},
	{"a size beyond 64 bits", post + chunks + "10000000000000005\r\nhello\r\n0\r\n\r\n", nil},
	{"no size", post + chunks + "\r\nhello\r\n0\r\n\r\n", nil},
	{"a size that is no number", post + chunks + "g\r\nhello\r\n0\r\n\r\n", nil},
	{"a size before a line feed alone", post + chunks + "5\nhello\r\n0\r\n\r\n", nil},
	{"an extension with a line feed alone", post + chunks + "5;a\nb\r\nhello\r\n0\r\n\r\n", nil},
	{"an extension with a carriage return alone", post + chunks + "5;a\rb\r\nhello\r\n0\r\n\r\n", nil},
	{"a chunk that is longer than its size", post + chunks + "5\r\nhello!\r\n0\r\n\r\n", nil},
	{"a chunk that is shorter than its size", post + chunks + "6\r\nhello\r\n0\r\n\r\n", nil},
	{"a chunk before a line feed alone", post + chunks + "5\r\nhello\n0\r\n\r\n", nil},
	{"a last chunk before a line feed alone", post + chunks + "5\r\nhello\r\n0\n\r\n", nil},
	{"an end of chunks that is a line feed alone", post + chunks + "5\r\nhello\r\n0\r\n\n", nil},
	{"a trailer that ends in a line feed alone", post + chunks + "0\r\nX: y\n\r\n", nil},
	{"a trailer that is folded", post + chunks + "0\r\nX: y\r\n z\r\n\r\n", nil},
	{"a trailer with a blank before the colon", post + chunks + "0\r\nX : y\r\n\r\n", nil},
	{"a trailer with a control character", post + chunks + "0\r\nX: y\x01z\r\n\r\n", nil},
	{"a trailer that is a length", post + chunks + "5\r\nhello\r\n0\r\nContent-Length: 32\r\n\r\n", nil},
	{"a trailer that is a coding", post + chunks + "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", nil},

	// First lines and hosts.
	{"no host", get + end, nil},
	{"two hosts", get + "Host: a\r\nHost: b\r\n\r\n", nil},
	{"two hosts that are the same", get + "Host: a\r\nHost: a\r\n\r\n", nil},
	{"a host with a blank", get + "Host: a b\r\n\r\n", nil},
	{"the whole URL of another host", "GET http://b/odd HTTP/1.1\r\nHost: a\r\n\r\n", both("GET /odd []")},
	{"a request of HTTP/0.9", "GET /odd\r\n\r\n", nil},
	{"a version that is too new", "GET /odd HTTP/2.0\r\nHost: a\r\n\r\n", nil},
	{"a version that is too old", "GET /odd HTTP/0.9\r\nHost: a\r\n\r\n", nil},
	{"a version with too many digits", "GET /odd HTTP/1.10\r\nHost: a\r\n\r\n", nil},
	{"a version in small letters", "GET /odd http/1.1\r\nHost: a\r\n\r\n", nil},
	{"another protocol", "GET /odd ICAP/1.0\r\nHost: a\r\n\r\n", nil},
	{"a blank at the end of the first line", "GET /odd HTTP/1.1 \r\nHost: a\r\n\r\n", nil},
	{"two versions", "GET /odd HTTP/1.1 HTTP/1.0\r\nHost: a\r\n\r\n", nil},
	{"two blanks before the path", "GET  /odd HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	{"a tab before the path", "GET\t/odd HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	{"a blank in the path", "GET /o dd HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	{"a blank before the method", " GET /odd HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	{"a method that is no token", "GE(T /odd HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	{"no method", "/odd HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	{"a path that is none", "GET odd HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	{"a tunnel", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", nil},
	{"an empty line before", "\r\n" + get + host + end, nil},
	{"the preface of HTTP/2 after a request", get + host + "\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []string{"GET /odd []"}},
	{"half a preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", nil},
	{"a request after one that asks for another protocol", get + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", []string{"GET /odd []"}},
}
