/// Bytes that were sent on a fresh connection, whole or broken, and the bytes with which Redis 7.0.15 answered
/// them; `<EOF>` where it closed the connection. `\r`, `\n` and `\xff` stand for the bytes they name.
enum RecordedProtocol {
  static let text = #"""
    *\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *x\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *1x\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    * 1\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *+1\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *03\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *-0\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *00\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *1.0\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *2147483648\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *9223372036854775808\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *99999999999999999999999\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *1\n$4\r\nPING\r\n -> -ERR Protocol error: invalid multibulk length\r\n<EOF>
    *1\r\n$\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$x\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$-1\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$-0\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$04\r\nPING\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$4x\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$4\nPING\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$536870913\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$9223372036854775807\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *1\r\n$9223372036854775808\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *2\r\n$4\r\nECHO\r\n$-5\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    *2\r\n$3\r\nf\r\no\r\n$1\r\na\r\n -> -ERR Protocol error: expected '$', got ' '\r\n<EOF>
    *1\r\n:4\r\n -> -ERR Protocol error: expected '$', got ':'\r\n<EOF>
    *1\r\nPING\r\n -> -ERR Protocol error: expected '$', got 'P'\r\n<EOF>
    *1\r\n\x01abc\r\n -> -ERR Protocol error: expected '$', got '\x01'\r\n<EOF>
    *1\r\n\x09abc\r\n -> -ERR Protocol error: expected '$', got '\x09'\r\n<EOF>
    *1\r\n\x7fabc\r\n -> -ERR Protocol error: expected '$', got '\x7f'\r\n<EOF>
    *1\r\n\x80abc\r\n -> -ERR Protocol error: expected '$', got '\x80'\r\n<EOF>
    *1\r\n\xffabc\r\n -> -ERR Protocol error: expected '$', got '\xff'\r\n<EOF>
    *1\r\n\r\n -> -ERR Protocol error: expected '$', got ' '\r\n<EOF>
    *1\r\n\n\r\n -> -ERR Protocol error: expected '$', got ' '\r\n<EOF>
    *1\r\n'\r\n -> -ERR Protocol error: expected '$', got '''\r\n<EOF>
    *2\r\n$4\r\nPING\r\n*1\r\n -> -ERR Protocol error: expected '$', got '*'\r\n<EOF>
    echo "ab\r\n -> -ERR Protocol error: unbalanced quotes in request\r\n<EOF>
    echo 'ab\r\n -> -ERR Protocol error: unbalanced quotes in request\r\n<EOF>
    echo "ab"c\r\n -> -ERR Protocol error: unbalanced quotes in request\r\n<EOF>
    echo 'ab'c\r\n -> -ERR Protocol error: unbalanced quotes in request\r\n<EOF>
    echo a"b\r\n -> -ERR Protocol error: unbalanced quotes in request\r\n<EOF>
    echo "a" "b\r\n -> -ERR Protocol error: unbalanced quotes in request\r\n<EOF>
    PING\n -> +PONG\r\n
    PING\r\n -> +PONG\r\n
    ping\r\n -> +PONG\r\n
    \r\n\r\nPING\r\n -> +PONG\r\n
    \n\n\nPING\n -> +PONG\r\n
       \r\nPING\r\n -> +PONG\r\n
      PING  \r\n -> +PONG\r\n
    "PING"\r\n -> +PONG\r\n
    'PING'\r\n -> +PONG\r\n
    echo "a b"\r\n -> $3\r\na b\r\n
    echo 'a b'\r\n -> $3\r\na b\r\n
    echo ""\r\n -> $0\r\n\r\n
    ping "" \r\n -> $0\r\n\r\n
    "" a\r\n -> -ERR unknown command '', with args beginning with: 'a' \r\n
    echo\x09a\x0bb\r\n -> $3\r\na\x0bb\r\n
    echo \x0b\x0ca\r\n -> $1\r\na\r\n
    PING\rPING\r\n -> $4\r\nPING\r\n
    \rPING\r\n -> +PONG\r\n
    $4\r\nPING\r\n -> -ERR unknown command '$4', with args beginning with: \r\n+PONG\r\n
    +PING\r\n -> -ERR unknown command '+PING', with args beginning with: \r\n
    {}\r\n -> -ERR unknown command '{}', with args beginning with: \r\n
    *-1\r\nPING\r\n -> +PONG\r\n
    *0\r\nPING\r\n -> +PONG\r\n
    *-5\r\nPING\r\n -> +PONG\r\n
    *1\r\n$0\r\n\r\n -> -ERR unknown command '', with args beginning with: \r\n
    *2\r\n$4\r\nECHO\r\n$0\r\n\r\n -> $0\r\n\r\n
    *1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n -> +PONG\r\n+PONG\r\n
    *1\r\n$4\r\nPI\r\n\r\n -> -ERR unknown command 'PI  ', with args beginning with: \r\n
    *2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n -> $3\r\na\r\n\r\n
    *1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n*x\r\n*1\r\n$4\r\nPING\r\n -> +PONG\r\n+PONG\r\n+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n<EOF>
    *3\r\n$3\r\nSET\r\n$1\r\na\r\n$x\r\n -> -ERR Protocol error: invalid bulk length\r\n<EOF>
    """#
}
