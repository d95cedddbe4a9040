# Redis.pm.
use strict;
use warnings;
use Redis;

my ($path, $namespace) = @ARGV;

sub same {
    my ($actual, $expected) = @_;
    $actual = join(" ", map { $_ // "nil" } @$actual) if ref $actual;
    die "$actual instead of $expected\n" unless ($actual // "nil") eq $expected;
}

my $redis = Redis->new(sock => $path);
same(scalar $redis->set("s", "1"), "OK");
same(scalar $redis->get("s"), "1");
same(scalar $redis->hset("h", "a", "1"), "1");
same([$redis->hgetall("h")], "a 1");
$redis->multi;
$redis->set("p", "1");
$redis->get("p");
same([$redis->exec], "OK 1");
my @found;
$redis->get("p", sub { push @found, $_[0] });
$redis->get("none", sub { push @found, $_[0] });
$redis->wait_all_responses;
same(\@found, "1 nil");
same(scalar $redis->eval("return ARGV[1]", 0, "x"), "x");
same(scalar $redis->set("lock", "me", "NX", "PX", 5000), "OK");
my $heard;
my $subscriber = Redis->new(sock => $path);
$subscriber->subscribe("news", sub { $heard = $_[0] });
$redis->publish("news", "hello");
$subscriber->wait_for_messages(1) until $heard;
same($heard, "hello");
same(scalar $redis->get("$namespace:user:1"), "ada");
$redis->del("s", "h", "p", "lock");
$redis->quit;
