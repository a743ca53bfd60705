"""Which addresses may be called for others."""

import ipaddress

import pytest

from shared import addresses
from shared.addresses import Address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://lab.example/hook?a=1", Address(secure=True, host="lab.example", port=443)),
        ("http://LAB.example:8080", Address(secure=False, host="lab.example", port=8080)),
        ("http://[2001:db8::1]:81/x", Address(secure=False, host="2001:db8::1", port=81)),
    ],
)
def test_a_url_says_where_it_leads(url: str, address: Address) -> None:
    assert addresses.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "ftp://lab.example/",
        "lab.example",
        "https://",
        "https:///path",
        "https://user:secret@lab.example/",
        "http://good.example@127.0.0.1/",
        "http://lab.example:99999/",
        "http://lab.example:x/",
        "http://lab example/",
        "http://lab.example/\nHost: other",
        "http://läb.example/",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_url_of_a_receiver_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|holds|has|Port|netloc"):
        addresses.parse(url)


@pytest.mark.parametrize("ip", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_may_be_called(ip: str) -> None:
    assert addresses.may_be_called(ipaddress.ip_address(ip))


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.7.7",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104  (to be refused)
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
    ],
)
def test_all_others_may_not(ip: str) -> None:
    assert not addresses.may_be_called(ipaddress.ip_address(ip))


def test_a_network_may_be_allowed_and_no_more_than_that() -> None:
    allowed = addresses.networks("10.0.0.0/8, 127.0.0.1/32,fd00::/8")
    for ip in ("10.1.2.3", "127.0.0.1", "::ffff:10.1.2.3", "fd00::7", "8.8.8.8"):
        assert addresses.may_be_called(ipaddress.ip_address(ip), allowed), ip
    for ip in ("127.0.0.2", "192.168.0.1", "::1", "169.254.169.254"):
        assert not addresses.may_be_called(ipaddress.ip_address(ip), allowed), ip
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/33"):
        addresses.networks("10.0.0.0/33")
