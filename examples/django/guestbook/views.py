"""The book as a page with a form, and as JSON."""

from django import forms
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from guestbook.models import Entry


class EntryForm(forms.ModelForm):
    """What a guest fills in."""

    class Meta:
        model = Entry
        fields = ("name", "text")


@require_http_methods(["GET", "HEAD", "POST"])
def book(request: HttpRequest) -> HttpResponse:
    """Shows the entries and takes new ones."""
    form = EntryForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("book")
    status = 400 if request.method == "POST" else 200
    entries = Entry.objects.order_by("-id")[:50]
    return render(request, "book.html", {"form": form, "entries": entries}, status=status)


@require_GET
def entries(request: HttpRequest) -> JsonResponse:
    """The entries as JSON."""
    return JsonResponse({"entries": list(Entry.objects.order_by("id").values("name", "text"))})
