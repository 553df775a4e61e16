"""One table."""

from django.db import models


class Entry(models.Model):
    """What somebody left in the book."""

    name = models.CharField(max_length=80)
    text = models.TextField(max_length=2000)
    written = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.text[:40]}"
