"""What there is to say of a job's images: `facts` gathers it, `page` makes report.html of it, `methods` methods.md."""

from shared.accounts.facts import Account, gather
from shared.accounts.methods import methods
from shared.accounts.page import CONTENT_SECURITY_POLICY, page

__all__ = ["CONTENT_SECURITY_POLICY", "Account", "gather", "methods", "page"]
